"""The ranked table as an object: what `probe.sweep` and `probe.table` give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from probe.leaderboard.command import sweep_columns
from probe.leaderboard.comparison import Comparison, brief, compare_rows
from probe.leaderboard.export import long, problem_lines, title, wide
from probe.leaderboard.index import read_folders
from probe.leaderboard.records import Records
from probe.leaderboard.screen import terminal
from probe.leaderboard.select import where as meeting
from probe.leaderboard.table import ROWS, Table, build_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Board:
    """A table of runs, with the marks and notes of `probe leaderboard`.

    Attributes:
        table: Its numbers, and what they were made of.
        failures: Job of a sweep -> why it gave no run.
        unfit: Job of a sweep that was passed over, since its parts do not fit -> why.
        comparisons: Each ensemble against its best member.
        remarks: What else has to be said.
    """

    table: Table
    failures: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    comparisons: Sequence[Comparison] = ()
    remarks: Sequence[str] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """One line per cell: the fields of its row and column, metric, value, low, high, seeds, mark, rank."""
        return long(self.table)

    @property
    def notes(self) -> list[str]:
        """What has to be said under the table: how it was made, what is not counted, what failed."""
        failed = [f"failed: {job}: {last_line(why)}" for job, why in self.failures.items()]
        passed = [f"passed over: {job}: {why}" for job, why in self.unfit.items()]
        against = [line for comparison in self.comparisons for line in brief(comparison)]
        return [*self.table.notes, *problem_lines(self.table), *self.remarks, *against, *passed, *failed]

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


def read_board(
    folders: Sequence[str | Path],
    metric: str | None = None,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    where: Sequence[str] = (),
) -> Board:
    """The board of finished runs.

    Args:
        folders: That hold runs, at any depth.
        metric: By default top1, or mAP where rows have several labels.
        rows: Fields of a row; by default backbone and head.
        columns: Fields of a column; by default the dataset, and what tells protocols on one dataset apart.
        where: Conditions that the runs meet.
    """
    records = read_folders(folders)
    records = Records(meeting(records.frame, where), records.problems, records.notes)
    by_column = sweep_columns(records) if columns is None else columns
    return Board(build_table(records, metric, ROWS if rows is None else rows, by_column))


def last_line(text: str) -> str:
    """What an error says, of a traceback."""
    return text.strip().rpartition("\n")[2]
