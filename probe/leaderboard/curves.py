"""Learning curves out of a table whose columns differ in training rows: rows needed, and who overtakes whom."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.core.terminal import columns, drawn
from probe.leaderboard.export import title
from probe.leaderboard.screen import lessened, tables
from probe.leaderboard.table import Table
from probe.metrics.shared.curves import TOLERANCE, crossing, rows_to_within
from probe.metrics.shared.intervals import FloatArray, Interval

if TYPE_CHECKING:
    import pandas as pd

MIN_SIZES = 3
NOTES = (
    "Rows are all that a head may learn from, those that validate included. Intervals (95%) draw the mean curves again "
    "by the scatter of the seeds, which are draws of training rows (Student's t); < and > lead out of the sizes "
    "measured. The best is that among these sizes: a curve that still rises at the last one needs more rows than its "
    "line says. One crossing is reported per pair, the one that parts the sizes best."
)


@dataclass(frozen=True)
class Curve:
    """Scores of one row of the table over training sets of growing size.

    Attributes:
        rows: (M,) training rows, rising.
        seeds: S seeds that every size has.
        scores_SM: (S, M) the metric.
    """

    rows: IntArray
    seeds: tuple[int, ...]
    scores_SM: FloatArray

    def at(self, rows: IntArray, seeds: Sequence[int]) -> FloatArray:
        """The scores at some of its sizes, for some of its seeds."""
        return self.scores_SM[np.isin(self.seeds, seeds)][:, np.isin(self.rows, rows)]


def sized_cells(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """The cells of the table with `n_rows`, their training and validation rows, and `group`, dataset and protocol."""
    names = frame["name"].tolist()
    n_rows = dict(zip(names, (frame["n_train"] + frame["n_validation"]).tolist(), strict=True))
    protocols = {text: json.loads(text)[0] for text in frame["protocol.parameters"].unique()}
    told = frame["dataset"] + ", " + frame["protocol.parameters"].map(protocols)
    group = dict(zip(names, told.tolist(), strict=True))
    return table.cells.assign(
        n_rows=[round(sum(n_rows[name] for name in runs) / len(runs)) for runs in table.cells["runs"]],
        group=[group[runs[0]] for runs in table.cells["runs"]],
    )


def gather(table: Table, frame: pd.DataFrame) -> dict[str, dict[str, Curve]]:
    """The curves, by group (dataset and protocol) and row of the table; rows with fewer than 3 sizes have none.

    Raises:
        InputError: A row has two columns of one size in a group, or sizes without a common seed, or there is no curve.
    """
    found: dict[str, dict[str, Curve]] = {}
    order = {row: place for place, row in enumerate(table.ranking["row"])}
    cells = sized_cells(table, frame).sort_values("n_rows", kind="stable")
    lines = [
        (str(line["group"].iloc[0]), str(line["row"].iloc[0]), line) for _, line in cells.groupby(["group", "row"])
    ]
    for group, row, line in sorted(lines, key=lambda item: (item[0], order[item[1]])):
        twice = line[line["n_rows"].duplicated(keep=False)]
        if len(twice):
            raise InputError(
                f"{row} has several columns with {twice['n_rows'].iloc[0]} training rows on {group} "
                f"({', '.join(twice['column'])}), a learning curve takes one: select with --where"
            )
        if len(line) >= MIN_SIZES:
            found.setdefault(group, {})[row] = _curve(table, group, row, line)
    if not found:
        raise InputError(
            f"no row has {MIN_SIZES} sizes of the training set or more on one dataset: run, for example, "
            "probe -m experiment=learning_curve"
        )
    return found


def _curve(table: Table, group: str, row: str, line: pd.DataFrame) -> Curve:
    scores = [table.scores[row, column] for column in line["column"]]
    seeds = sorted(set.intersection(*(set(s.seeds) for s in scores)))
    if not seeds:
        raise InputError(f"{row} on {group} has no seed that all sizes share: run what is missing")
    means = [[s.means[s.seeds.index(seed)] for s in scores] for seed in seeds]
    return Curve(line["n_rows"].to_numpy(dtype=np.int64), tuple(seeds), np.array(means))


def text(table: Table, frame: pd.DataFrame, width: int | None = None) -> str:
    """For the terminal: for each row the training rows that it needs, for each pair of rows where they cross."""
    import pandas as pd

    parts: list[Any] = []
    room = width or columns()
    for group, curves in gather(table, frame).items():
        parts.append(f"Learning curves, {title(table)}: {one_line(group)}")
        for (names, lines), n_left, lesser in (
            (_needs(table, curves), 1, ["sizes", "seeds"]),
            (_crossings(table, curves), 2, []),
        ):
            told = pd.DataFrame([[one_line(text) for text in line] for line in lines], columns=names)
            parts += tables(lessened(told, n_left, lesser), room) if lines else []
    return drawn(*parts, NOTES, width=room)


Lines = tuple[list[str], list[list[str]]]


def _needs(table: Table, curves: dict[str, Curve]) -> Lines:
    spelled = table.measure.spelled
    near = spelled(TOLERANCE)
    lines = []
    for row, curve in curves.items():
        mean = curve.scores_SM.mean(axis=0)
        rising = _rising(table, curve.scores_SM)
        best, needed = int(rising.mean(axis=0).argmax()), rows_to_within(curve.rows, rising)
        sizes = f"{len(curve.rows)} from {curve.rows[0]} to {curve.rows[-1]}"
        top = f"{spelled(mean[best])} at {curve.rows[best]}"
        lines.append([row, sizes, str(len(curve.seeds)), top, _rows(needed, curve.rows)])
    return ["", "sizes", "seeds", "best", f"rows to within {near} of it"], lines


def _crossings(table: Table, curves: dict[str, Curve]) -> Lines:
    lines = []
    for a, b in itertools.combinations(curves, 2):
        sizes = np.intersect1d(curves[a].rows, curves[b].rows)
        seeds = sorted(set(curves[a].seeds) & set(curves[b].seeds))
        if len(sizes) < MIN_SIZES or not seeds:
            continue
        first, second = (_rising(table, curves[row].at(sizes, seeds)) for row in (a, b))
        found = crossing(sizes, first, second)
        if found is None:
            area = np.trapezoid((first - second).mean(axis=0), np.log(sizes))
            leader = a if area > 0 else b
            lines.append([leader, a if leader == b else b, "at all sizes" if area else "equal"])
        else:
            leader, other = (a, b) if found.first_leads else (b, a)
            lines.append([leader, other, f"up to {_rows(found.rows, sizes)}"])
    return ["better", "than", "rows"], lines


def _rising(table: Table, scores_SM: FloatArray) -> FloatArray:
    """Scores of which more is better."""
    return scores_SM if table.higher_is_better else -scores_SM


def _rows(interval: Interval, sizes: IntArray) -> str:
    low = f"<{sizes[0]}" if interval.low < sizes[0] else f"{interval.low:.0f}"
    high = f">{sizes[-1]}" if interval.high > sizes[-1] else f"{interval.high:.0f}"
    return f"{interval.value:.0f} [{low}, {high}]"
