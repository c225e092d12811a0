"""The ranked table as an object: what `probe.sweep` and `probe.table` give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from probe.leaderboard.comparison import Comparison, compare_rows
from probe.leaderboard.export import long, problem_lines, terminal, title, wide
from probe.leaderboard.table import Table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Board:
    """A table of runs, with the marks and notes of `probe leaderboard`.

    Attributes:
        table: Its numbers, and what they were made of.
        failures: Job of a sweep -> why it gave no run.
        unfit: Job of a sweep that was passed over, since its parts do not fit -> why.
    """

    table: Table
    failures: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """One line per cell: the fields of its row and column, metric, value, low, high, seeds, mark, rank."""
        return long(self.table)

    @property
    def notes(self) -> list[str]:
        """What has to be said under the table: how it was made, what is not counted, what failed."""
        failed = [f"failed: {job}: {last_line(why)}" for job, why in self.failures.items()]
        passed = [f"passed over: {job}: {why}" for job, why in self.unfit.items()]
        return [*self.table.notes, *problem_lines(self.table), *passed, *failed]

    def compare(self, a: str, b: str) -> Comparison:
        """Two rows, each by its fields, such as `"tiny linear"`: paired differences and tests in every column.

        Raises:
            InputError: A name is that of no row, or of several.
        """
        return compare_rows(self.table, a, b)

    def __str__(self) -> str:
        told = self.notes[len(self.table.notes) + len(problem_lines(self.table)) :]
        return terminal(self.table) + "".join(f"{line}\n" for line in told)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines, marks = wide(self.table)
        head = "".join(f"<th>{escape(name)}</th>" for name in lines.columns)
        body = ""
        for values, of_line in zip(lines.values.tolist(), marks.values.tolist(), strict=True):
            texts = [
                f"<b>{escape(value)}</b>" if mark == "best" else escape(value)
                for value, mark in zip(values, of_line, strict=True)
            ]
            body += "<tr>" + "".join(f"<td>{text}</td>" for text in texts) + "</tr>"
        notes = "".join(f"<div><small>{escape(note)}</small></div>" for note in self.notes)
        return f"<div>{escape(title(self.table))}</div><table><tr>{head}</tr>{body}</table>{notes}"


def last_line(text: str) -> str:
    """What an error says, of a traceback."""
    return text.strip().rpartition("\n")[2]
