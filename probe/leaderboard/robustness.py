"""Effective robustness: how far each row of the table is above what its score on its own test rows lets expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.core.terminal import columns, drawn
from probe.leaderboard.screen import lessened, tables
from probe.leaderboard.statistics import Scores
from probe.leaderboard.table import Table
from probe.metrics.shared.intervals import LEVEL

if TYPE_CHECKING:
    import pandas as pd

LEAST_ROWS = 3
"""Two always lie on a line."""
N_DRAWS = 1000
NOTES = (
    "In %, means over seeds. Expected: from the line through the log-odds of all rows on both test sets. Robustness: "
    "the shifted score less the expected one, 95% interval over the test rows of both sets and over seeds, the rows "
    "that make the line as they are."
)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Robustness:
    """Of the rows of a table that were tested on both sets, (S,) each but for the line.

    Attributes:
        rows: Their names.
        own, shifted: Scores on the two sets.
        expected: By the line.
        value, low, high: Shifted less expected.
        slope, intercept: Of the line in log-odds.
    """

    rows: list[str]
    own: FloatArray
    shifted: FloatArray
    expected: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    slope: float
    intercept: float


def effective_robustness(
    own: dict[str, Scores], shifted: dict[str, Scores], seed: int = 0, n_draws: int = N_DRAWS
) -> Robustness:
    """Scores on shifted rows less those that logit(shifted) = a + b logit(own) gives, least squares over all systems.

    Source: R. Taori et al., "Measuring Robustness to Natural Distribution Shifts in Image Classification", 2020, arXiv
    2007.00644. Departure: log-odds in the place of probits.

    Args:
        own: Systems by name, on their own test rows.
        shifted: The same on the shifted ones.
        seed: Of the resamples.
        n_draws: Of these.

    Raises:
        InputError: Less than three systems, or all of one score.
    """
    names = sorted(own.keys() & shifted.keys())
    if len(names) < LEAST_ROWS:
        raise InputError(
            f"{len(names)} rows were tested on both sets, a line wants {LEAST_ROWS} or more: run other backbones, as "
            "in probe -m backbone=tiny,timm,open_clip dataset@test_on=digits"
        )
    first, second = ([of[name] for name in names] for of in (own, shifted))
    values = [_inside(systems, np.array([one.value for one in systems])) for systems in (first, second)]
    if np.ptp(values[0]) == 0:
        raise InputError("all rows score the same on their own test rows, no line goes through them: run others")
    slope, intercept = (float(number) for number in _line(values[0][None], values[1][None])[:, 0])
    rng = np.random.default_rng(seed)
    draws = [_inside(systems, _resampled(systems, rng, n_draws)) for systems in (first, second)]
    slopes, intercepts = _line(*draws)
    spread = draws[1] - expit(intercepts[:, None] + slopes[:, None] * logit(draws[0]))
    expected = expit(intercept + slope * logit(values[0]))
    off = np.nanquantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Robustness(names, values[0], values[1], expected, values[1] - expected, off[0], off[1], slope, intercept)


def _inside(systems: list[Scores], values: FloatArray) -> FloatArray:
    """Scores within half a row of 0 and 1, whose log-odds are finite."""
    edges = np.array([0.5 / one.n_rows for one in systems])
    found: FloatArray = np.clip(values, edges, 1 - edges)
    return found


def _line(x: FloatArray, y: FloatArray) -> FloatArray:
    """(2, B) slope and intercept of each of B draws (B, S)."""
    x, y = logit(x), logit(y)
    off = x - x.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        slope = (off * y).sum(axis=1) / (off**2).sum(axis=1)
    return np.stack([slope, y.mean(axis=1) - slope * x.mean(axis=1)])


def _resampled(systems: list[Scores], rng: np.random.Generator, n_draws: int) -> FloatArray:
    """(B, S) scores under resampled test rows, the same for all systems, and resampled seeds of each."""
    n = systems[0].n_rows
    parts = np.stack([one.influences.sum(axis=0) for one in systems])  # (S, N)
    draws = np.stack([parts @ (rng.multinomial(n, np.full(n, 1 / n)) - 1.0) for _ in range(n_draws)])
    for s, one in enumerate(systems):
        seeds = rng.integers(0, len(one.means), (n_draws, len(one.means)))
        draws[:, s] += one.means[seeds].mean(axis=1)
    return draws


def pairs(table: Table) -> list[tuple[str, str]]:
    """Columns of own test rows, each with one of shifted rows."""
    names = table.column_names
    return [(own, other) for own in names for other in names if other.startswith(f"{own} to ")]


def text(table: Table, frame: pd.DataFrame, width: int | None = None) -> str:
    """For the terminal: a table for each shifted set.

    Raises:
        InputError: There is none, or the metric is no share.
    """
    import pandas as pd

    if not (table.measure.proportion and table.higher_is_better):
        raise InputError(f"{table.metric} is no share of which more is better: choose a metric such as top1")
    found = pairs(table)
    if not found:
        raise InputError(
            "no dataset was tested on its own rows and on others: run, for example, probe -m "
            "backbone=tiny,timm,open_clip dataset@test_on=digits"
        )
    told, room = [], width or columns()
    for own, other in found:
        given = [{row: s for (row, column), s in table.scores.items() if column == name} for name in (own, other)]
        of = effective_robustness(given[0], given[1])
        order = np.argsort(-of.value, kind="stable")
        percent = {name: 100 * getattr(of, name) for name in ("own", "shifted", "expected", "value", "low", "high")}
        lines = [
            [
                one_line(of.rows[i]),
                *(f"{percent[name][i]:.1f}" for name in ("own", "shifted", "expected")),
                f"{percent['value'][i]:+.1f} [{percent['low'][i]:+.1f}, {percent['high'][i]:+.1f}]",
            ]
            for i in order
        ]
        lined = pd.DataFrame(lines, columns=["", "own", "shifted", "expected", "robustness"])
        title = f"Effective robustness, {one_line(other)}: logit = {of.intercept:.2f} + {of.slope:.2f} logit"
        told.append(drawn(title, *tables(lessened(lined, 1, ["expected"]), room), NOTES, width=room))
    return "\n".join(told)
