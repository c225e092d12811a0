"""What measures of features foretell: their rank correlation with a scored metric, over backbones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from probe.core.errors import InputError
from probe.core.escaping import one_line
from probe.core.terminal import columns, drawn
from probe.leaderboard.records import METRIC, metric_of
from probe.leaderboard.screen import lessened, tables
from probe.leaderboard.select import add_fields, joined
from probe.leaderboard.table import Table
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.metric import known

if TYPE_CHECKING:
    import pandas as pd

LEAST = 4
"""Backbones below which a correlation has no interval."""
OVER = "backbone"
NOTES = (
    "Spearman's rank correlation over backbones, both turned so that more is better: 1 where the measure puts them in "
    "the order of their scores. 95% interval for other backbones (Bonett and Wright 2000); those of one family are not "
    "as many as they look."
)


def rank_correlation(x: FloatArray, y: FloatArray, level: float = 0.95) -> tuple[float, float, float]:
    """Spearman's correlation of n pairs, and the ends of its interval; nan where one of both is the same everywhere.

    tanh(atanh(r) -+ z sqrt((1 + r^2 / 2) / (n - 3))): Bonett and Wright, "Sample size requirements for estimating
    Pearson, Kendall and Spearman correlations", 2000. An order without a fault has the interval of the largest
    correlation below 1 that n ranks can have, up to 1.

    Raises:
        InputError: Fewer than 4 pairs.
    """
    n = len(x)
    if n < LEAST:
        raise InputError(f"{n} pairs have no interval of their rank correlation, expected at least {LEAST}: give more")
    from scipy.stats import rankdata  # takes 0.4 s to import, which every table would wait for

    first, second = rankdata(x), rankdata(y)
    if not first.std() or not second.std():
        return np.nan, np.nan, np.nan
    r = float(np.clip(np.corrcoef(first, second)[0, 1], -1, 1))
    nearest = 1 - 6 * 2 / (n * (n * n - 1))  # two neighbours exchanged
    within = float(np.clip(r, -nearest, nearest))
    half = ndtri((1 + level) / 2) * np.sqrt((1 + within**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(within) + np.array([-half, half]))
    return r, -1.0 if r < -nearest else float(low), 1.0 if r > nearest else float(high)


def text(table: Table, frame: pd.DataFrame, measures: Sequence[str] = (), width: int | None = None) -> str:
    """For the terminal: a line per measure, head and column of the table.

    Args:
        table: Of the metric that is to be foretold; its rows name backbones.
        frame: All runs, those without a head included.
        measures: Names of measures of features; by default all that some runs have.
        width: Of the terminal.

    Raises:
        InputError: A measure that no run has, rows without backbones, or fewer than four backbones with both.
    """
    import pandas as pd

    there = [name for name, metric in known().items() if metric.reads == "features" and f"{METRIC}{name}" in frame]
    if odd := [name for name in measures if f"{METRIC}{name}" not in frame]:
        raise InputError(
            f"no run has the measure {', '.join(odd)}, expected some of {', '.join(there) or 'none'}: make runs with "
            "head=unlabelled of the same backbones and datasets"
        )
    if OVER not in table.rows:
        raise InputError(f"rows are {', '.join(table.rows)}, a rank correlation is one over backbones: add {OVER}")
    lines = [line for name in measures or there for line in _lines(table, frame, name)]
    if not lines:
        raise InputError(
            f"no column has {LEAST} backbones with {table.metric} and with a measure of their features: sweep, for "
            "example, backbone over four or more and head=unlabelled,linear"
        )
    names = ["measure", *(field for field in table.rows if field != OVER), *table.columns, "backbones", "correlation"]
    told = pd.DataFrame([[one_line(word) for word in line] for line in lines], columns=names)
    room = width or columns()
    title = f"What measures of features foretell of {one_line(table.named(table.metric))}"
    return drawn(title, *tables(lessened(told, len(names) - 1, []), room), NOTES, width=room)


def _lines(table: Table, frame: pd.DataFrame, name: str) -> list[list[str]]:
    """One for each group of cells that differ in the backbone alone, and have the measure of four of them."""
    metric = metric_of({"own_metrics": frame["own_metrics"].iloc[0]}, name)
    measured = add_fields(frame[frame[f"{METRIC}{name}"].notna()], [OVER, *table.columns])
    measured = measured.assign(column=joined(measured, table.columns))
    means = measured.groupby([OVER, "column"])[f"{METRIC}{name}"].mean().to_dict()
    others = [field for field in table.rows if field != OVER]
    lines = []
    for key, cells in table.cells.groupby([*others, "column", *table.columns], sort=True):
        pairs = [
            (means[cell[OVER], cell["column"]], cell["badness"])
            for cell in cells.to_dict("records")
            if (cell[OVER], cell["column"]) in means
        ]
        if len(pairs) >= LEAST:
            values, badness = np.array(pairs, dtype=np.float64).T
            found = rank_correlation(-metric.badness(values), -badness)
            fields: Any = [str(part) for i, part in enumerate(key) if i != len(others)]
            lines.append([name, *fields, str(len(pairs)), _shown(*found)])
    return lines


def _shown(value: float, low: float, high: float) -> str:
    return "all the same" if np.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"
