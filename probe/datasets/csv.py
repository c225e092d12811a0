"""Image files, or vectors, listed in a table with their labels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.base import Dataset, Partition
from probe.core.errors import InputError
from probe.datasets.shared.caption_rows import caption_columns as chosen_captions
from probe.datasets.shared.caption_rows import captioned, check_no_labels, tested_among, texts_of_columns
from probe.datasets.shared.columns import LABEL, Role, choose, required
from probe.datasets.shared.labels import join_columns, label_columns, numbers_or_names, read_class_names
from probe.datasets.shared.numbers import Labelled, classes, numbers_asked
from probe.datasets.shared.partitions import ArrayPartition, ImageFiles, make_dataset
from probe.datasets.shared.row_facts import know
from probe.datasets.shared.sources import on_disk
from probe.datasets.shared.split_tables import column_of, fact_of, tables_of_file, tables_of_folder
from probe.datasets.shared.tables import Table, read_table
from probe.datasets.shared.vectors import feature_columns as chosen_features
from probe.datasets.shared.vectors import stacked

FILE = Role(
    "image files", "file_column", ("file", "filename", "file_name"),
    ("filepath", "path", "image", "image_path", "image_id", "id"),
)  # fmt: skip


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
    map_labels: bool = False,
    unknown_labels: bool = False,
    group_column: str | None = None,
    session_column: str | None = None,
    hardness_column: str | None = None,
    feature_columns: str | Sequence[str] | None = None,
    encoding: str | None = None,
    target_columns: str | Sequence[str] | None = None,
    units: str | Sequence[str] | None = None,
    missing: str = "refuse",
    ordered: bool = False,
    caption_columns: str | Sequence[str] | None = None,
) -> Dataset:
    """Reads one table, perhaps with a column of partitions, or a folder with `train.csv` and, optionally, others.

    A folder has `test.csv` and `val.csv` beside it. Without partitions all rows are train, for protocols that draw test
    rows from it. Tables have a header; `.tsv` is separated by tabs. Labels that are all whole numbers are class
    numbers, others names. A table without image files whose other columns are numbers is one of vectors, for
    `backbone=identity`. Which column holds what is guessed as `probe.datasets.shared.columns` says.

    Args:
        path: The table, or the folder of tables.
        name: How tables call the dataset; the stem of the file or the folder's name by default.
        images: Folder to which file names are relative; that of the table by default.
        file_column: By default the one of the names in `FILE` whose first value is a file.
        label_column: By default the one of the names in `LABEL`. Where rows have several labels: several columns of
            zeros and ones, or one whose values `separator` divides.
        separator: Between the labels of a row, such as `|`; a value without anything is a row without labels.
        partition_column: By default the one of the names in `split_tables.PARTITION`, else the one that holds
            partitions alone.
        suffix: Put behind every file name, such as `.jpg`.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1.
        map_labels: Take numbers as labels that do not run from 0 on, in ascending order.
        unknown_labels: Take null, NaN, `?` and -1 in columns of labels as unknown, which is neither of 0 and 1.
        group_column, session_column, hardness_column: What else is known of each row, see `row_facts.FACTS`.
        feature_columns: Columns of numbers that make a vector of each row: names, or patterns such as `f*`.
        encoding: Of the files, such as `latin-1`; by default UTF-8, or UTF-16 with its mark.
        target_columns: The column that holds numbers to predict, or several; labels are classes otherwise.
        units: Of the numbers to predict, one for each column, for display.
        missing: `refuse` numbers to predict that are missing, or `drop` their rows, which are counted.
        ordered: Whether the classes, or the numbers to predict, are grades, from low to high.
        caption_columns: Columns of captions, names or patterns such as `caption_*`; labels are not read then, and rows
            that name one image file are one, with the captions of all. The partition test is read alone.
    """
    if path is None:
        raise InputError("dataset=csv needs a table, none is given: set dataset.path=<file.csv>")
    source = Path(path).expanduser()
    read = functools.partial(read_table, encoding=encoding)
    if source.is_dir():
        tables, partition_key, left_out = tables_of_folder(source, {".csv": read, ".tsv": read}, not caption_columns)
    else:
        tables, partition_key, left_out = tables_of_file(source, read, partition_column, not caption_columns)
    called = name or (source.resolve().name if source.is_dir() else source.stem)
    root = Path(images).expanduser() if images else source if source.is_dir() else source.parent
    if caption_columns:
        check_no_labels(
            "caption_columns", label_column=label_column, class_names=class_names, ignore_label=ignore_label,
            feature_columns=feature_columns, target_columns=target_columns, separator=separator, map_labels=map_labels,
            unknown_labels=unknown_labels, ordered=ordered, group_column=group_column, session_column=session_column,
            hardness_column=hardness_column, units=units,
        )  # fmt: skip
        return _with_captions(called, tables, root, suffix, file_column, caption_columns, partition_key, left_out)
    train = tables["train"]
    there = dict.fromkeys(train.columns, "")
    asked = numbers_asked(
        target_columns, units, missing, label_column=label_column, separator=separator, class_names=class_names,
        ignore_label=ignore_label, map_labels=map_labels, unknown_labels=unknown_labels,
    )  # fmt: skip
    if asked:
        columns = asked.among(source, there)
    else:
        columns = [required(LABEL, source, there, column) for column in label_columns(label_column)]
    known = {"groups": group_column, "sessions": session_column, "hardness": hardness_column}
    texts = {part: {c: [v.strip() for v in column_of(t, c)] for c in columns} for part, t in tables.items()}
    given = read_class_names(class_names, encoding) or (columns if len(columns) > 1 else None)
    taken = [*columns, partition_key, *known.values()]
    rows_of = _rows(tables, root, suffix, file_column, feature_columns, taken)
    if asked:
        found = asked.read(texts, source)
    else:
        found = classes(_typed(texts, separator), str(source), given, ignore_label, map_labels, unknown_labels)
    partitions = {}
    for part, table in tables.items():
        facts = {fact: fact_of(table, column, part) for fact, column in known.items()}
        partitions[part] = know(rows_of(part, found), facts, part)
    return make_dataset(called, found.names, partitions, target=found.target, left_out=left_out, ordered=ordered)


def _with_captions(
    name: str,
    tables: Mapping[str, Table],
    root: Path,
    suffix: str,
    file_column: str | None,
    asked: str | Sequence[str],
    partition_key: str | None,
    left_out: list[str],
) -> Dataset:
    """The image files of the partition that tests, with the captions of all rows that name them."""
    part = tested_among(tables)
    table = tables[part]
    named = [asked] if isinstance(asked, str) else asked
    free = [column for column in table.columns if column not in (*named, partition_key)]
    key = _file_column(table, root, suffix, file_column, free)
    key = required(FILE, table.source, dict.fromkeys(free, "")) if key is None else key
    columns = chosen_captions([c for c in table.columns if c not in (key, partition_key)], asked, table.source)
    texts = texts_of_columns({column: column_of(table, column) for column in columns}, part)
    gathered: dict[str, list[str]] = {}
    for file, of_row in zip(on_disk(root, [f"{value}{suffix}" for value in column_of(table, key)]), texts, strict=True):
        gathered.setdefault(file, []).extend(of_row)
    files = list(gathered)
    _check_files(root, {part: files})
    others = {other: rows for other, rows in tables.items() if other != part}
    every = [tuple(of_file) for of_file in gathered.values()]
    return captioned(name, every, lambda counts: ImageFiles(root, files, counts), left_out, others)


def _rows(
    tables: dict[str, Table],
    root: Path,
    suffix: str,
    file_column: str | None,
    features: str | Sequence[str] | None,
    taken: Sequence[str | None],
) -> Callable[[str, Labelled], Partition]:
    """What makes a partition of image files, or of vectors, once its labels are known."""
    train = tables["train"]
    free = [column for column in train.columns if column not in taken]
    file_key = _file_column(train, root, suffix, file_column, free) if features is None else None
    if file_key is not None:
        ids = {p: on_disk(root, [f"{value}{suffix}" for value in column_of(t, file_key)]) for p, t in tables.items()}
        _check_files(root, ids)
        return lambda part, found: ImageFiles(root, ids[part], found.labels[part], found.target)
    numeric = {column: features is not None or _numbers(train.columns[column]) is not None for column in free}
    chosen = chosen_features(numeric, features, (), train.source)
    arrays = {p: stacked({c: [_feature(t, c, p)] for c in chosen}, t.source) for p, t in tables.items()}
    numbered = {part: [str(row) for row in range(len(rows))] for part, rows in arrays.items()}
    return lambda part, found: ArrayPartition(arrays[part], found.labels[part], numbered[part], target=found.target)


def _file_column(table: Table, root: Path, suffix: str, asked: str | None, free: Sequence[str]) -> str | None:
    there = dict.fromkeys(table.columns, "")
    if asked is not None:
        return choose(FILE, table.source, there, asked)
    named = [column for column in (*FILE.clear, *FILE.usual) if column in free]
    lead = [c for c in named if all((root / f).is_file() for f in on_disk(root, [f"{table.columns[c][0]}{suffix}"]))]
    if not named:
        return None
    more = set(free) - set(named)
    if not lead and more and all(_numbers(table.columns[column]) is not None for column in free):
        return None  # numbers alone: vectors, or a question about them
    # Where none leads to a file the first is taken, for the error that names the files.
    return choose(FILE, table.source, there, fitting=lead or named[:1])


def _numbers(texts: Sequence[str]) -> np.ndarray | None:
    """(N,) float64 where all texts are finite numbers."""
    try:
        values = np.array([float(text) for text in texts])
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _feature(table: Table, column: str, part: str) -> np.ndarray:
    texts = column_of(table, column)
    values = _numbers(texts)
    if values is None:
        row = next(i for i, text in enumerate(texts) if _numbers([text]) is None)
        raise InputError(
            f"row {row} of {part} has {texts[row]!r} in column {column} of {table.source}, expected a finite number: "
            "fill it in, or name the features in dataset.feature_columns=[...]"
        )
    return values


def _typed(texts: dict[str, dict[str, list[str]]], separator: str | None) -> dict[str, Any]:
    """Labels of each partition: numbers where all are whole numbers, lists where a separator divides them."""

    def words(text: str) -> list[str]:
        return [text] if separator is None else [word.strip() for word in text.split(separator) if word.strip()]

    every = {text for columns in texts.values() for values in columns.values() for text in values}
    kind = numbers_or_names(word for text in every for word in words(text))

    def typed(text: str) -> Any:
        found = [kind(word) if word else None for word in words(text)]
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
