"""How near predicted numbers come to true ones, over columns of their own units.

Each is computed for every column and averaged. Intervals are for new test rows, or new groups of these: Student's, on
the scale where the statistic is nearly normal, see `probe.metrics.shared.influences`. In what follows e is the true
number minus the predicted one, of N rows. `pearson` is the correlation of numbers, `spearman` that of their ranks, of
equal numbers the mean rank, and `kendall` is tau-b; see `probe.metrics.shared.correlations`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.special import bdtr

from probe.core.base import IntArray
from probe.metrics.shared.correlations import kendall, pearson, spearman, varies
from probe.metrics.shared.influences import FISHER, LOGARITHM, SHARE_LEFT, Scale, studentized
from probe.metrics.shared.intervals import LEVEL, QUANTILES, FloatArray, Interval, mean_of
from probe.metrics.shared.metric import OF_THE_TARGET, Metric, Statistic
from probe.metrics.shared.scores.number import BesideTraining, NumberScores

Column = Callable[[FloatArray, FloatArray], Statistic]
"""A statistic of the true and the predicted numbers of a column, (N,) each, and its derivative by row weight."""


def absolute_error(scores: NumberScores) -> FloatArray:
    """|e| of each row, mean over the columns, (N,)."""
    return np.abs(scores.errors).mean(axis=1)


def mean_absolute_error(scores: NumberScores) -> Statistic:
    """MAE: mean of |e|."""
    values = absolute_error(scores)
    return float(values.mean()), (values - values.mean()) / len(values)


def errors_by_group(scores: NumberScores, groups: IntArray) -> list[list[Interval]]:
    """MAE of each column, in its own unit, among the rows of each group 0..G-1; intervals are for new rows of it.

    An interval has no end where a group has one row.

    Args:
        scores: Of the test rows.
        groups: (N,) numbers of their groups, each with a row.
    """
    errors, order = np.abs(scores.errors), np.argsort(groups, kind="stable")
    parts = np.split(errors[order], np.cumsum(np.bincount(groups))[:-1])
    return [[_mean_error(column) for column in part.T] for part in parts]


def _mean_error(errors: FloatArray) -> Interval:
    value = float(errors.mean())
    return studentized(value, (errors - value) / len(errors), None, LOGARITHM)


def rmse(true: FloatArray, predicted: FloatArray) -> Statistic:
    """Root of the mean of e^2."""
    squares = (true - predicted) ** 2
    value = float(np.sqrt(squares.mean()))
    return value, (squares - value**2) / (2 * max(value, np.finfo(float).tiny) * len(squares))


def r2(true: FloatArray, predicted: FloatArray, centre: float | None = None) -> Statistic:
    """1 - sum of e^2 / sum of (y - centre)^2; the centre is the mean of the test rows unless another is given.

    As scikit-learn's `r2_score`. Below 0 where the centre predicts better.
    """
    squares, spread = (true - predicted) ** 2, (true - (true.mean() if centre is None else centre)) ** 2
    A, B = squares.mean(), spread.mean()
    return float(1 - A / B), ((spread - B) * A / B - (squares - A)) / (B * len(true))


def median_error(scores: NumberScores) -> Interval:
    """Median of |e|, between the order statistics that a binomial number of rows below it leaves; groups count as rows.

    Source of the interpolation: Hettmansperger and Sheather, "Confidence intervals based on interpolated order
    statistics", 1986.
    """
    return mean_of([_median(errors) for errors in np.abs(scores.errors).T], overlap=float(scores.errors.shape[1]))


def _median(values: FloatArray) -> Interval:
    n, ordered = len(values), np.sort(values)
    fewer = bdtr(np.arange((n + 1) // 2), n, 0.5)  # chance of at most so many rows below the median
    k = int(np.sum(fewer <= QUANTILES[0]))
    if not k or k == len(fewer):
        return Interval(float(np.median(values)), float(ordered[0]), float(ordered[-1]))
    wide, narrow = 1 - 2 * fewer[k - 1], 1 - 2 * fewer[k]
    part = (wide - LEVEL) / (wide - narrow)
    part = (n - k) * part / (k + (n - 2 * k) * part)
    low, high = ((1 - part) * ordered[[k - 1, n - k]] + part * ordered[[k, n - k - 1]]).tolist()
    return Interval(float(np.median(values)), low, high)


def over_columns(statistic: Column, scores: NumberScores) -> Statistic:
    """Mean of a statistic over the columns, and of its derivatives."""
    parts = [statistic(*pair) for pair in zip(scores.labels.T, scores.predicted.T, strict=True)]
    return float(np.mean([value for value, _ in parts])), np.mean([slopes for _, slopes in parts], axis=0)


def r2_beside_training(scores: BesideTraining) -> Statistic:
    """R2 against the mean of the training rows, which a test set of few rows does not move."""
    rows = scores.rows
    columns = zip(rows.labels.T, rows.predicted.T, scores.means, strict=True)
    parts = [r2(true, predicted, centre) for true, predicted, centre in columns]
    return float(np.mean([value for value, _ in parts])), np.mean([slopes for _, slopes in parts], axis=0)


def _both_vary(scores: NumberScores) -> bool:
    return len(scores.labels) > 2 and varies(scores.labels) and varies(scores.predicted)


def _in_columns(name: str, statistic: Column, scale: Scale, **more: Any) -> Metric:
    of_all: Callable[[NumberScores], Statistic] = partial(over_columns, statistic)
    return Metric(name=name, of_all=of_all, targets=("number",), needs=("label", "predicted"), tolerance=1e-6,
                  interval=lambda scores, means, seed: studentized(*of_all(scores), scores.groups, scale),
                  **more)  # fmt: skip


METRICS = (
    _in_columns("r2", r2, SHARE_LEFT, signed=True, shown=True, suits=lambda scores: varies(scores.labels)),
    Metric(name="r2_against_training", reads="training", of_all=r2_beside_training, targets=("number",), signed=True,
           suits=lambda scores: bool((scores.rows.labels != scores.means).any(axis=0).all()),
           interval=lambda scores, means, seed: studentized(*r2_beside_training(scores), scores.rows.groups,
                                                            SHARE_LEFT)),
    Metric(name="mae", per_row=absolute_error, targets=("number",), better="lower", unit=OF_THE_TARGET,
           needs=("label", "predicted"), tolerance=1e-6,
           interval=lambda scores, means, seed: studentized(*mean_absolute_error(scores), scores.groups, LOGARITHM)),
    _in_columns("rmse", rmse, LOGARITHM, better="lower", unit=OF_THE_TARGET),
    Metric(name="median_error", targets=("number",), better="lower", unit=OF_THE_TARGET,
           interval=lambda scores, means, seed: median_error(scores),
           unranked="it is the error of one row, and which one that is changes with the rows"),
    _in_columns("pearson", pearson, FISHER, signed=True, suits=_both_vary),
    _in_columns("spearman", spearman, FISHER, signed=True, suits=_both_vary),
    _in_columns("kendall", kendall, FISHER, signed=True, suits=_both_vary),
)  # fmt: skip
