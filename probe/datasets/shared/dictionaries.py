"""Codes of several files in one dictionary: each file's own class names say what its codes mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from probe.core.errors import InputError
from probe.core.texts import one_spelling


class Coded(NamedTuple):
    """Labels of one file, and what its codes are called there; None where it does not say."""

    source: str
    values: list[Any]
    names: Sequence[str] | None


class Labels(NamedTuple):
    """Labels of each partition in one dictionary, its names, and the partitions with labels that were translated."""

    values: dict[str, list[Any]]
    names: list[str] | None
    translated: set[str]


def one_dictionary(parts: Mapping[str, Sequence[Coded]], column: str, declared: bool = False) -> Labels:
    """Labels of each partition in the codes of one file.

    The dictionary is that of the first file of train which has one. Labels of files with another one are translated by
    name; labels that are names already stay names, unless other files have codes.

    Args:
        parts: The files of each partition.
        column: What holds the labels.
        declared: Whether the user says what codes are called, so that files without names are taken at their word.

    Raises:
        InputError: A class that the dictionary lacks, or codes of a file that does not say what they are called while
            others do.
    """
    first = next((file for file in parts["train"] if file.names), None)
    others = [file for files in parts.values() for file in files if file.names]
    if first is None and others:
        raise InputError(
            f"{others[0].source} says what the codes of {column} are called ({', '.join(others[0].names or ())}) and "
            "the files of train do not, expected the same in all: write the class names into the files of train, or "
            "write labels as names"
        )
    as_read = {part: [value for file in files for value in file.values] for part, files in parts.items()}
    if first is None or first.names is None:
        return Labels(as_read, None, set())
    code = {one_spelling(str(name)): k for k, name in enumerate(first.names)}
    values = {
        part: [value for file in files for value in _translated(file, first, code, column, declared)]
        for part, files in parts.items()
    }
    changed = {part for part in values if values[part] != as_read[part]}
    return Labels(values, [str(name) for name in first.names], changed)


def _translated(file: Coded, first: Coded, code: Mapping[str, int], column: str, declared: bool) -> list[Any]:
    """The labels of a file in the codes of the first."""
    if file.names is not None and list(file.names) == list(first.names or ()):
        return file.values
    flat = {v for value in file.values for v in (value if isinstance(value, list | tuple) else [value])}
    codes = [v for v in flat if isinstance(v, int) and not isinstance(v, bool) and v >= 0]
    if file.names is None and codes and not declared:
        raise InputError(
            f"{file.source} does not say what the codes of {column} are called, {first.source} does "
            f"({', '.join(map(str, first.names or ()))}), expected the same in all: set dataset.class_names to these "
            "names if its codes mean the same"
        )
    table = {v: _code_of(v, file, first, code, column) for v in flat}
    return [[table[v] for v in value] if isinstance(value, list | tuple) else table[value] for value in file.values]


def _code_of(value: Any, file: Coded, first: Coded, code: Mapping[str, int], column: str) -> Any:
    is_code = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not isinstance(value, str) and not (is_code and file.names is not None):
        return value  # missing, negative, or taken at its word: judged where labels are encoded
    names = file.names or ()
    name = value if isinstance(value, str) else str(names[value]) if value < len(names) else f"number {value}"
    if one_spelling(name) not in code:
        raise InputError(
            f"{file.source} has rows of class {name} in {column}, which {first.source} does not name "
            f"({', '.join(map(str, first.names or ()))}): write the files with the same class names"
        )
    return code[one_spelling(name)]
