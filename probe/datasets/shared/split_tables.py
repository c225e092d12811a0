"""Tables with their partitions: one with a column of them, or a folder with a table for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from probe.core.errors import InputError
from probe.core.words import counted
from probe.datasets.shared.columns import Role, choose
from probe.datasets.shared.sources import unused_files
from probe.datasets.shared.tables import Table

PARTITIONS = {"train": ("train", "training"), "test": ("test", "testing"), "validation": ("validation", "val", "valid")}
PART_OF = {word: part for part, words in PARTITIONS.items() for word in words}
PARTITION = Role("partitions", "partition_column", ("partition", "split"), ("set", "subset"))

Readers = Mapping[str, Callable[[Path], Table]]
"""How to read a table, by the ending of its file."""
Tables = tuple[dict[str, Table], str | None, list[str]]
"""Of each partition, the column that tells them apart, and what is left out."""


def tables_of_folder(folder: Path, readers: Readers, learnt: bool = True) -> Tables:
    """`train`, and perhaps `test` and `validation` (`val`, `valid`), each a table of a known ending.

    Where nothing is learnt, any of them will do.
    """
    found, used = {}, []
    for part, words in PARTITIONS.items():
        files = [f for w in words for s in readers if (f := folder / f"{w}{s}").is_file()]
        if len(files) > 1:
            raise InputError(
                f"{folder} has {' and '.join(f.name for f in files)}, expected one of them: remove the rest"
            )
        if files:
            found[part] = readers[files[0].suffix](files[0])
            used += files
    if learnt or not found:
        _check_train(folder, found, [entry.name for entry in sorted(folder.iterdir())], next(iter(readers)))
    left_out = [p for s in readers for p in unused_files(folder, used, f"*{s}", "named for no partition")]
    return found, None, left_out


def tables_of_file(file: Path, read: Callable[[Path], Table], asked: str | None, learnt: bool = True) -> Tables:
    """One table; without a column of partitions all of it is train, which need not be there where nothing is learnt."""
    table = read(file)
    by_kind = [c for c, values in table.columns.items() if all(_word(v) in PART_OF for v in values)]
    column = choose(PARTITION, file, dict.fromkeys(table.columns, ""), asked, by_kind=by_kind)
    if column is None:
        return {"train": table}, None, []
    values = [str(value) for value in table.columns[column]]
    parts = [PART_OF.get(_word(value)) for value in values]
    rows = {part: [i for i, p in enumerate(parts) if p == part] for part in PARTITIONS}
    unknown = Counter(v for v, p in zip(values, parts, strict=True) if p is None)
    found = {part: table.rows(numbers) for part, numbers in rows.items() if numbers}
    if learnt or not found:
        _check_train(file, found, sorted(set(values)), file.suffix)
    left_out = [f"{counted(n, 'row')} of {file.name} whose {column} is {word!r}" for word, n in sorted(unknown.items())]
    return found, column, left_out


def column_of(table: Table, column: str) -> list[str]:
    """A column that train has, in any partition."""
    if column not in table.columns:
        raise InputError(
            f"{table.source} has the columns {', '.join(table.columns)}, expected {column}, as train has: write all "
            "tables with the same columns"
        )
    return table.columns[column]


def fact_of(table: Table, column: str | None, part: str) -> list[str] | None:
    """The values of a column that train must have; None where it is not asked for, or another table lacks it."""
    if column is None or (column not in table.columns and part != "train"):
        return None
    if column not in table.columns:
        raise InputError(
            f"{table.source} has the columns {', '.join(table.columns)}, expected {column}: name one that it has"
        )
    return [str(value).strip() for value in table.columns[column]]


def _word(value: object) -> str:
    return str(value).strip().lower()


def _check_train(source: Path, found: Mapping[str, Table], there: Sequence[str], ending: str) -> None:
    if "train" not in found:
        raise InputError(
            f"{source} has {', '.join(there[:10]) or 'nothing'}, expected train: give train{ending} and test{ending} "
            "in a folder, or a column that says train, validation or test"
        )
