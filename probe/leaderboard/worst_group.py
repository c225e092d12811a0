"""The worst group of each row of the table, and whether that of another row is better: a paired test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.core.terminal import columns, drawn
from probe.leaderboard.screen import lessened, tables
from probe.leaderboard.statistics import holm
from probe.leaderboard.table import Table
from probe.metrics.shared.intervals import LEVEL
from probe.results.reader import read_predictions

if TYPE_CHECKING:
    import pandas as pd

    from probe.core.base import IntArray

N_DRAWS = 2000
DRAWN_AT_ONCE = 2**20
GROUP = "group"
NOTES = (
    "Accuracies of the worst group in %, means over seeds. Behind the best: difference, 95% interval over test rows "
    "of each group, both systems on the same; p of swapping the answers of both at random, row by row; Holm's over the "
    "rows of the table."
)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Worst-group accuracy of one system less that of another, on the same rows."""

    value: float
    low: float
    high: float
    p: float


def worst(right: FloatArray, groups: IntArray) -> FloatArray:
    """(...,) lowest mean over the rows of any group, of shares (..., N) of seeds under which a row is right."""
    inside = groups == np.arange(groups.max() + 1)[:, None]
    found: FloatArray = (right @ inside[inside.any(axis=1)].T / inside[inside.any(axis=1)].sum(axis=1)).min(axis=-1)
    return found


def compare(a: FloatArray, b: FloatArray, groups: IntArray, seed: int = 0, n_draws: int = N_DRAWS) -> Difference:
    """Paired comparison of two systems by their worst groups, which may be two.

    The test swaps the answers of both on each row with even chances: where the systems are alike, each way is as
    likely, whichever group is the worst. The interval draws the rows of each group again, for both at once. Of a system
    with several groups as bad as each other, the worst of some rows is below the worst of many.

    Args:
        a, b: (N,) shares of seeds under which each row is right.
        groups: (N,) numbers from 0 on.
        seed: Of the draws.
        n_draws: Of each kind.
    """
    rng, value = np.random.default_rng(seed), float(worst(a, groups) - worst(b, groups))
    order, sizes = np.argsort(groups, kind="stable"), np.bincount(groups)
    starts, room = np.repeat(np.cumsum(sizes) - sizes, sizes), np.repeat(sizes, sizes)
    swaps, spread = np.empty(n_draws), np.empty(n_draws)
    step = max(1, DRAWN_AT_ONCE // len(a))
    for first in range(0, n_draws, step):
        part = slice(first, min(first + step, n_draws))
        chance = rng.random((2, part.stop - first, len(a)))
        swapped = chance[0] < 0.5
        swaps[part] = worst(np.where(swapped, b, a), groups) - worst(np.where(swapped, a, b), groups)
        rows = order[starts + (chance[1] * room).astype(np.int64)]
        spread[part] = worst(a[rows], groups[order]) - worst(b[rows], groups[order])
    extreme = 1 + int((np.abs(swaps) >= abs(value) - 1e-12).sum())
    low, high = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(value, min(float(low), value), max(float(high), value), extreme / (n_draws + 1))


def text(table: Table, frame: pd.DataFrame, width: int | None = None) -> str:
    """For the terminal: of each column whose runs kept groups, every row beside the best one.

    Raises:
        InputError: No run kept any.
    """
    import pandas as pd

    told, room = [], width or columns()
    for column, (systems, groups) in _gathered(table, frame).items():
        scores = {row: float(worst(right, groups)) for row, right in systems.items()}
        order = sorted(scores, key=lambda row: -scores[row])
        best = order[0]
        found = [compare(systems[row], systems[best], groups) for row in order[1:]]
        adjusted = holm([difference.p for difference in found])
        lines = [[one_line(best), f"{100 * scores[best]:.1f}", "best", "", ""]]
        for row, d, p in zip(order[1:], found, adjusted, strict=True):
            behind = f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
            lines.append([one_line(row), f"{100 * scores[row]:.1f}", behind, f"{d.p:.4f}", f"{p:.4f}"])
        lined = pd.DataFrame(lines, columns=["", "worst group", "behind the best", "p", "p Holm"])
        title = f"Worst of {len(np.unique(groups))} groups, {one_line(column)}"
        told.append(drawn(title, *tables(lessened(lined, 1, ["p"]), room), NOTES, width=room))
    if not told:
        raise InputError(
            "no run kept the groups of its test rows, expected datasets whose training and test rows name the same: "
            "set dataset.group_column, and run again with force=true what was made before"
        )
    return "\n".join(told)


def _gathered(table: Table, frame: pd.DataFrame) -> dict[str, tuple[dict[str, FloatArray], IntArray]]:
    """By column the shares of seeds under which each row is right, of every system, and the groups of the rows."""
    runs, found = frame.set_index("name"), dict[str, tuple[dict[str, FloatArray], Any]]()
    for cell in table.cells.to_dict("records"):
        kept = [read_predictions(str(runs.loc[name, "folder"])) for name in cell["runs"]]
        if not all(GROUP in one and "label_rank" in one for one in kept):
            continue
        systems, groups = found.setdefault(cell["column"], ({}, kept[0][GROUP].astype(np.int64)))
        if all(np.array_equal(one[GROUP], groups) and np.array_equal(one["row"], kept[0]["row"]) for one in kept):
            systems[cell["row"]] = np.mean([one["label_rank"] == 0 for one in kept], axis=0)
    return {column: part for column, part in found.items() if part[0]}
