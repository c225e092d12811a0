"""How many seeds a wished width of the intervals takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from probe.leaderboard.seeds import LEVEL
from probe.leaderboard.statistics import Scores, spread
from probe.leaderboard.table import Table

WISHED = 0.01
MANY = 1000


@dataclass(frozen=True)
class Advice:
    """For the typical cell of a column, half-widths of the 95 % interval.

    Attributes:
        now: With the seeds that it has.
        least: What the test rows leave however many seeds there are.
        n_seeds: Seeds for the wished half-width; None where the test rows do not allow it.
    """

    now: float
    least: float
    n_seeds: int | None


def advise(column: Sequence[Scores], wished: float) -> Advice | None:
    """Seeds for a half-width; None where no cell has two seeds that differ.

    The rows' share of the variance stays, that of the seeds falls as 1 / R; with many seeds the interval is normal.
    """
    variances = spread(column)
    moving = variances.rest > 0
    if not moving.any():
        return None
    z = float(ndtri((1 + LEVEL) / 2))
    n_seeds = np.array([len(system.seeds) for system in column])[moving]
    rows = np.median((variances.known - variances.rest)[moving])
    per_seed = np.median(((variances.rest + variances.added)[moving]) * n_seeds)
    left = (wished / z) ** 2 - rows
    needed = int(np.ceil(per_seed / left)) if left > 0 else None
    return Advice(float(np.median(variances.margin()[moving])), z * float(np.sqrt(max(0.0, rows))), needed)


def text(table: Table, wished: float = WISHED) -> str:
    """A line per column whose cells are known less well than wished; none for folds, and metrics that are no shares."""
    if not table.measure.percent:
        return ""
    lines = []
    for column in table.column_names:
        systems = table.column(column)
        found = None if any(system.n_folds for system in systems) else advise(systems, wished)
        if found is None or found.now <= wished:
            continue
        if found.n_seeds is None or found.n_seeds > MANY:
            more = f"more seeds lead to {100 * found.least:.1f}, below it only more test rows"
        else:
            more = f"about {max(2, found.n_seeds)} seeds give {100 * wished:.1f}"
        lines.append(f"{column}: a cell is known to ± {100 * found.now:.1f} points; {more}.")
    return "\n".join(lines)
