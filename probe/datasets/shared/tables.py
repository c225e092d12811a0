"""Tables as text: a header and one line per row, nothing dropped."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from probe.core.errors import InputError
from probe.core.texts import read_text


class Table(NamedTuple):
    """Columns of equal length, as text."""

    source: Path
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, numbers: list[int]) -> Table:
        """Some of the rows."""
        return Table(self.source, {name: [values[i] for i in numbers] for name, values in self.columns.items()})


def read_table(file: Path, encoding: str | None = None) -> Table:
    """Reads a table with a header, separated by commas, by semicolons where the header has no comma, or by tabs (.tsv).

    Raises:
        InputError: No text, no rows, two columns of one name, or a line with more or fewer values than the header.
    """
    if not file.is_file():
        raise InputError(f"{file} is no file, expected a .csv or .tsv with a header: give its path")
    text = read_text(
        file, encoding, "save it as UTF-8, or name what it is with dataset.encoding=latin-1 (or cp1252, utf-16, ...)"
    )
    header = text.partition("\n")[0]
    separator = "\t" if file.suffix.lower() == ".tsv" else ";" if ";" in header and "," not in header else ","
    lines = _lines(file, text, separator)
    if len(lines) < 2:
        raise InputError(f"{file} has no rows, expected a header and one row per image: fill it")
    names, rows = lines[0], lines[1:]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise InputError(
            f"{file} has {names.count(twice[0])} columns named {twice[0]!r}, expected one: rename the others"
        )
    for number, row in enumerate(rows):
        if len(row) != len(names):
            many = len(row) > len(names)
            raise InputError(
                f"row {number} of {file} has {'more' if many else 'fewer'} values than the header has columns "
                f"({len(row)} and {len(names)}): "
                + ("quote values that hold the separator" if many else "write every value, an empty one as nothing")
            )
    return Table(file, {name: [row[i] for row in rows] for i, name in enumerate(names)})


def _lines(file: Path, text: str, separator: str) -> list[list[str]]:
    """The values of all lines that are not empty."""
    # A long field is no sign of damage; none can be longer than the text.
    before = csv.field_size_limit(max(len(text), 1))
    try:
        # Strict: a quote that is never closed would swallow the lines behind it.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        return [line for line in reader if line]
    except csv.Error as error:
        raise InputError(f"{file} cannot be read as a table ({error}): mend its quotes") from error
    finally:
        csv.field_size_limit(before)
