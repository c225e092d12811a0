"""Texts with their labels: in tables (csv, tsv, jsonl, parquet), or a file each in a folder per class."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.datasets.shared.columns import LABEL, required
from probe.datasets.shared.labels import join_columns, label_columns, numbers_or_names, read_class_names
from probe.datasets.shared.numbers import classes, numbers_asked
from probe.datasets.shared.partitions import make_dataset
from probe.datasets.shared.records import read_jsonl, read_parquet
from probe.datasets.shared.row_facts import know
from probe.datasets.shared.shortening import Shortening
from probe.datasets.shared.split_tables import Readers, column_of, fact_of, tables_of_file, tables_of_folder
from probe.datasets.shared.tables import Table, read_table
from probe.datasets.shared.text_files import read_folder
from probe.datasets.shared.text_rows import TextPartition
from probe.datasets.shared.text_tables import JOINED, TEXT, check_pair_as, pairs_apart, rows_of

TYPED = (".jsonl", ".ndjson", ".parquet")
"""Endings of tables whose values have types; others hold words."""


def load(
    path: str | None = None,
    name: str | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    pair_as: str = JOINED,
    span_columns: Sequence[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    separator: str | None = None,
    partition_column: str | None = None,
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
    map_labels: bool = False,
    unknown_labels: bool = False,
    group_column: str | None = None,
    session_column: str | None = None,
    hardness_column: str | None = None,
    encoding: str | None = None,
    target_columns: str | Sequence[str] | None = None,
    units: str | Sequence[str] | None = None,
    missing: str = "refuse",
    ordered: bool = False,
    shorten: Sequence[str] | None = None,
    stop_words: str | Sequence[str] | None = None,
    keep_words: Sequence[str] | None = None,
) -> Dataset:
    """Reads one table, perhaps with a column of partitions, or a folder.

    A folder holds `train.csv` (`.tsv`, `.jsonl`, `.ndjson`, `.parquet`) and, optionally, `test` and `val`; or
    `<partition>/<class>/**/*.txt`, or `<class>/**/*.txt`. Without partitions all rows are train, for protocols that
    draw test rows from it. Which column holds what is guessed as `probe.datasets.shared.columns` says. Texts that
    differ in case, white space and the spelling of characters (NFKC) alone count as copies of each other.

    Args:
        path: The table, or the folder.
        name: How tables call the dataset; the stem of the file or the folder's name by default.
        text_column: By default the one of the names in `TEXT`, else the only one that holds words.
        pair_column: Of a second text.
        pair_as: `joined`: the backbone reads it behind the first text, as cross-encoders do; `rows`: both are rows of
            their own with the label of the pair, and the pair is a group, as bi-encoders are measured (`head=pairs`).
        span_columns: Two columns: the first character of a marked span of the text, and the one behind its last, for
            backbones that read at spans (`pooling=span`).
        label_column: By default the one of the names in `LABEL`. Where rows have several labels: several columns of
            zeros and ones, one of lists, or one whose values `separator` divides.
        separator: Between the labels of a row, such as `|`; a value without anything is a row without labels.
        partition_column: By default the one of the names in `split_tables.PARTITION`, else the one that holds
            partitions alone.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1; of a folder, a class.
        map_labels: Take numbers as labels that do not run from 0 on, in ascending order.
        unknown_labels: Take null, NaN, `?` and -1 in columns of labels as unknown, which is neither of 0 and 1.
        group_column: Rows of one document, author, ... that no protocol divides, see `row_facts.FACTS`.
        session_column, hardness_column: What else is known of each row.
        encoding: Of the files, such as `latin-1`; by default UTF-8, or UTF-16 with its mark.
        target_columns: The column that holds numbers to predict, or several; labels are classes otherwise.
        units: Of the numbers to predict, one for each column, for display.
        missing: `refuse` numbers to predict that are missing, or `drop` their rows, which are counted.
        ordered: Whether the classes, or the numbers to predict, are grades, from low to high.
        shorten: What to leave out of texts, such as `[stop]` or `[recurring, head_tail:64]`; see
            `probe.datasets.shared.shortening.Shortening`.
        stop_words: For `shorten=[stop]`: a list, or a file with a word per line; scikit-learn's English ones by
            default.
        keep_words: Stop words that are kept, such as `[not, no, nor]`.
    """
    if path is None:
        raise InputError("dataset=texts needs a table or a folder, none is given: set dataset.path=<file or folder>")
    source, apart = Path(path).expanduser(), check_pair_as(pair_as, pair_column, span_columns, group_column)
    shorter = Shortening(shorten or (), stop_words, keep_words or ())
    called = name or (source.resolve().name if source.is_dir() else source.stem)
    called += f" ({shorter.name})" if shorter.name and name is None else ""
    readers = _readers(encoding)
    asked = numbers_asked(
        target_columns, units, missing, label_column=label_column, separator=separator, class_names=class_names,
        ignore_label=ignore_label, map_labels=map_labels, unknown_labels=unknown_labels,
    )  # fmt: skip
    if source.is_dir() and not any((source / f"train{ending}").is_file() for ending in readers):
        if asked:
            raise InputError(
                f"{source} has a folder per class, dataset.target_columns names columns of a table: give a table, or "
                "leave it out"
            )
        partitions, names, left_out = read_folder(source, encoding, class_names, ignore_label, shorter)
        told = left_out + shorter.told
        return make_dataset(called, names, partitions, left_out=told, rows="texts", ordered=ordered)
    if source.is_dir():
        tables, partition_key, left_out = tables_of_folder(source, readers)
    elif source.suffix.lower() in readers:
        tables, partition_key, left_out = tables_of_file(source, readers[source.suffix.lower()], partition_column)
    else:
        raise InputError(
            f"{source} is no table of texts, expected one that ends with {', '.join(readers)}, or a folder: give "
            "its path"
        )
    train = tables["train"]
    there = dict.fromkeys(train.columns, "")
    if asked:
        columns = asked.among(source, there)
    else:
        columns = [required(LABEL, source, there, column) for column in label_columns(label_column)]
    known = {"groups": group_column, "sessions": session_column, "hardness": hardness_column}
    taken = {*columns, partition_key, pair_column, *(span_columns or ()), *known.values()}
    text_key = _text_column(train, text_column, [c for c in train.columns if c not in taken])
    if asked:
        found = asked.read({part: {c: column_of(t, c) for c in columns} for part, t in tables.items()}, source)
    else:
        raw = {part: _labels(table, columns, separator, tables) for part, table in tables.items()}
        given = read_class_names(class_names, encoding) or (columns if len(columns) > 1 else None)
        found = classes(raw, str(source), given, ignore_label, map_labels, unknown_labels)
    partitions = {}
    for part, table in tables.items():
        rows = [shorter(row) for row in rows_of(table, part, text_key, pair_column, span_columns)]
        facts = {fact: fact_of(table, column, part) for fact, column in known.items()}
        numbered = [str(row) for row in range(len(rows))]
        read = TextPartition(rows, found.labels[part], numbered, found.target)
        know(read, facts, part)
        partitions[part] = pairs_apart(read, found.target, part) if apart else read
    told = left_out + shorter.told
    return make_dataset(
        called, found.names, partitions, target=found.target, left_out=told, rows="texts", ordered=ordered
    )


def _readers(encoding: str | None) -> Readers:
    words = functools.partial(read_table, encoding=encoding)
    lines = functools.partial(read_jsonl, encoding=encoding)
    return {".csv": words, ".tsv": words, ".jsonl": lines, ".ndjson": lines, ".parquet": read_parquet}


def _text_column(table: Table, asked: str | None, free: Sequence[str]) -> str:
    kinds = {column: _kind(table.columns[column]) for column in table.columns}
    fitting = [c for c in table.columns if c == asked or (kinds[c] == "words" and c in free)]
    return required(TEXT, table.source, kinds, asked, fitting, by_kind=fitting)


def _kind(values: Sequence[Any]) -> str:
    """What a column holds, for the error that lists them: words, numbers, or another type."""
    others = {type(value).__name__ for value in values if value is not None and not isinstance(value, str)}
    if others:
        return "numbers" if others <= {"int", "float"} else ", ".join(sorted(others))
    try:
        [float(value) for value in values if value]
    except ValueError:
        return "words"
    return "numbers"


def _labels(table: Table, columns: Sequence[str], separator: str | None, tables: Mapping[str, Table]) -> Any:
    """Labels as they were typed: words of tables without types are numbers where all of them are whole numbers."""
    values = {column: column_of(table, column) for column in columns}
    if table.source.suffix in TYPED and separator is None:
        return join_columns(values)

    def words(value: Any) -> list[str]:
        text = "" if value is None else str(value).strip()
        return [text] if separator is None else [word.strip() for word in text.split(separator) if word.strip()]

    every = {word for t in tables.values() for c in columns for value in column_of(t, c) for word in words(value)}
    kind = numbers_or_names(every)

    def typed(value: Any) -> Any:
        found = [kind(word) if word else None for word in words(value)]
        return found[0] if separator is None else found

    return join_columns({column: [typed(value) for value in values[column]] for column in columns})
