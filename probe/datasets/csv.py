"""Image files listed in a table with their labels."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.datasets.shared.labels import encode_labels, join_columns, label_columns, read_class_names, target_of
from probe.datasets.shared.partitions import ImageFiles, make_dataset
from probe.datasets.shared.row_facts import know

PARTITIONS = {"train": ("train", "training"), "test": ("test", "testing"), "validation": ("validation", "val", "valid")}
FILE_COLUMNS = ("file", "filename", "file_name", "filepath", "path", "image", "image_path", "image_id", "id")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category")
NUMBER = re.compile(r"-?[0-9]+")
PARTITION_COLUMNS = ("partition", "split", "set", "subset")

Table = list[dict[str, str]]


def load(
    path: str | None = None,
    name: str | None = None,
    images: str | None = None,
    file_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    separator: str | None = None,
    partition_column: str | None = None,
    suffix: str = "",
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
    group_column: str | None = None,
    session_column: str | None = None,
    hardness_column: str | None = None,
) -> Dataset:
    """Reads one table with a column of partitions, or a folder with `train.csv`, `test.csv` and perhaps `val.csv`.

    Tables have a header; `.tsv` is separated by tabs. Labels that are all whole numbers are class
    numbers, others names.

    Args:
        path: The table, or the folder of tables.
        name: How tables call the dataset; the stem of the file or the folder's name by default.
        images: Folder to which file names are relative; that of the table by default.
        file_column: By default the first of `FILE_COLUMNS` that is there.
        label_column: By default the first of `LABEL_COLUMNS` that is there. Where rows have several labels: several
            columns of zeros and ones, or one whose values `separator` divides.
        separator: Between the labels of a row, such as `|`; a value without anything is a row without labels.
        partition_column: By default the first of `PARTITION_COLUMNS` that is there.
        suffix: Put behind every file name, such as `.jpg`.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1.
        group_column, session_column, hardness_column: What else is known of each row, see
            `probe.datasets.shared.row_facts.FACTS`.
    """
    if path is None:
        raise InputError("dataset=csv needs a table, none is given: set dataset.path=<file.csv>")
    source = Path(path).expanduser()
    tables = _tables_of_folder(source) if source.is_dir() else _tables_of_file(source, partition_column)
    root = Path(images).expanduser() if images else source if source.is_dir() else source.parent
    ids, texts, columns = {}, {}, [""]
    for part, rows in tables.items():
        file_key = _column(rows, file_column, FILE_COLUMNS, "file_column", source)
        asked = label_columns(label_column)
        columns = [_column(rows, column, LABEL_COLUMNS, "label_column", source) for column in asked]
        ids[part] = [f"{row[file_key]}{suffix}" for row in rows]
        texts[part] = {column: [row[column].strip() for row in rows] for column in columns}
    _check_files(root, ids)
    given = read_class_names(class_names) or (columns if len(columns) > 1 else None)
    raw = _typed(texts, separator)
    codes, names = encode_labels(raw, str(source), given, ignore_label)
    known = {"groups": group_column, "sessions": session_column, "hardness": hardness_column}
    partitions = {}
    for part, rows in tables.items():
        facts = {fact: _fact(rows, column, part, source) for fact, column in known.items()}
        partitions[part] = know(ImageFiles(root, ids[part], codes[part]), facts, part)
    shown = name or (source.resolve().name if source.is_dir() else source.stem)
    return make_dataset(shown, names, partitions, target=target_of(raw))


def _fact(rows: Table, column: str | None, part: str, source: Path) -> list[str] | None:
    """The values of a column that train must have; None where it is not asked for, or another table lacks it."""
    if column is None or (column not in rows[0] and part != "train"):
        return None
    if column not in rows[0]:
        raise InputError(f"{source} has the columns {', '.join(rows[0])}, expected {column}: name one that it has")
    return [row[column].strip() for row in rows]


def _tables_of_folder(folder: Path) -> dict[str, Table]:
    found = {}
    for part, words in PARTITIONS.items():
        files = [f for w in words for s in (".csv", ".tsv") if (f := folder / f"{w}{s}").is_file()]
        if files:
            found[part] = _read(files[0])
    _check_partitions(folder, found, [entry.name for entry in sorted(folder.iterdir())])
    return found


def _tables_of_file(file: Path, asked: str | None) -> dict[str, Table]:
    rows = _read(file)
    column = _column(rows, asked, PARTITION_COLUMNS, "partition_column", file)
    part_of = {word: part for part, words in PARTITIONS.items() for word in words}
    found: dict[str, Table] = {}
    for row in rows:
        part = part_of.get(row[column].strip().lower())
        if part is not None:
            found.setdefault(part, []).append(row)
    _check_partitions(file, found, sorted({row[column] for row in rows}))
    return found


def _check_partitions(source: Path, found: dict[str, Table], there: Sequence[str]) -> None:
    if not {"train", "test"} <= found.keys():
        raise InputError(
            f"{source} has {', '.join(there[:10]) or 'nothing'}, expected train and test: give train.csv and test.csv "
            "in a folder, or a column that says train, validation or test"
        )


def _read(file: Path) -> Table:
    if not file.is_file():
        raise InputError(f"{file} is no file, expected a .csv or .tsv with a header: give its path")
    with file.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened, delimiter="\t" if file.suffix == ".tsv" else ",", restkey="", restval="")
        rows = list(reader)
    ragged = next((i for i, row in enumerate(rows) if "" in row), None)
    if ragged is not None:
        raise InputError(
            f"row {ragged} of {file} has more values than the header has columns: quote values with commas"
        )
    if not rows:
        raise InputError(f"{file} has no rows, expected a header and one row per image: fill it")
    return rows


def _column(rows: Table, asked: str | None, usual: Sequence[str], parameter: str, source: Path) -> str:
    found = next((column for column in ((asked,) if asked else usual) if column in rows[0]), None)
    if found is None:
        raise InputError(
            f"{source} has the columns {', '.join(rows[0])}, expected {asked or ' or '.join(usual)}: set "
            f"dataset.{parameter} to one that it has"
        )
    return found


def _typed(texts: dict[str, dict[str, list[str]]], separator: str | None) -> dict[str, Any]:
    """Labels of each partition: numbers where all are whole numbers, lists where a separator divides them."""

    def words(text: str) -> list[str]:
        return [text] if separator is None else [word.strip() for word in text.split(separator) if word.strip()]

    every = {text for columns in texts.values() for values in columns.values() for text in values}
    numbers = all(NUMBER.fullmatch(word) for text in every for word in words(text))

    def typed(text: str) -> Any:
        found = [int(word) if numbers else word or None for word in words(text)]
        return found[0] if separator is None else found

    return {
        part: join_columns({column: [typed(text) for text in values] for column, values in columns.items()})
        for part, columns in texts.items()
    }


def _check_files(root: Path, ids: dict[str, list[str]]) -> None:
    missing = [
        (part, row, name)
        for part, names in ids.items()
        for row, name in enumerate(names)
        if not (root / name).is_file()
    ]
    if missing:
        part, row, name = missing[0]
        raise InputError(
            f"{len(missing)} image files are missing, the first is {name} (row {row} of {part}) in {root}: set "
            "dataset.images to their folder, or dataset.suffix to the ending that the table leaves out"
        )
