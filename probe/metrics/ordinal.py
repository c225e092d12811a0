"""How far predictions are off among classes or grades that have an order, of datasets that declare `ordered`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from probe.core.base import IntArray
from probe.metrics.shared.graded import GradedScores
from probe.metrics.shared.influences import FISHER, studentized
from probe.metrics.shared.intervals import FloatArray, Interval, between
from probe.metrics.shared.metric import Metric, Statistic


def rank_error(scores: GradedScores) -> FloatArray:
    """Grades between the predicted and the true one, mean over the columns, (N,)."""
    return scores.apart.mean(axis=1)


def within_one(scores: GradedScores) -> FloatArray:
    """Share of the columns whose grade is predicted or a neighbour of the predicted one, (N,)."""
    return (scores.apart <= 1).mean(axis=1, dtype=np.float64)


def quadratic_kappa(scores: GradedScores) -> Statistic:
    """1 - A / B: A the mean squared distance in grades, B that between the grades of any two rows; mean over columns.

    B is what independent predictions of the same shares give. Source: J. Cohen, "Weighted kappa", 1968.
    """
    parts = [_kappa(*pair) for pair in zip(scores.labels.T, scores.predicted.T, strict=True)]
    return float(np.mean([value for value, _ in parts])), np.mean([slopes for _, slopes in parts], axis=0)


def _kappa(true: IntArray, predicted: IntArray) -> Statistic:
    y, p = true.astype(np.float64), predicted.astype(np.float64)
    squares = (p - y) ** 2
    to_true = (p - y.mean()) ** 2 + y.var()
    to_predicted = (y - p.mean()) ** 2 + p.var()
    A, B = squares.mean(), to_true.mean()
    slopes = A / B**2 * (to_true + to_predicted - 2 * B) - (squares - A) / B
    return float(1 - A / B), slopes / len(y)


def _differ(scores: GradedScores) -> bool:
    """Whether each column has two grades, true or predicted."""
    seen = np.concatenate([scores.labels, scores.predicted])
    return bool((np.ptp(seen, axis=0) > 0).all())


def _mean(per_row: Callable[[GradedScores], FloatArray], scores: GradedScores, largest: float = 1.0) -> Interval:
    """Of values between 0 and a largest one: Wilson's form, rows of a group taken for one."""
    values = per_row(scores) / largest
    slopes = (values - values.mean()) / len(values)
    if scores.groups is not None:
        slopes = np.bincount(scores.groups, weights=slopes)[np.unique(scores.groups)]
    found = between(float(values.mean()), slopes, float(len(slopes)))
    return Interval(largest * found.value, largest * found.low, largest * found.high)


SHARED: dict[str, Any] = {"targets": ("one_class", "number"), "reads": "graded"}
METRICS = (
    Metric(name="quadratic_kappa", of_all=quadratic_kappa, signed=True, suits=_differ, **SHARED,
           interval=lambda scores, means, seed: studentized(*quadratic_kappa(scores), scores.groups, FISHER)),
    Metric(name="rank_error", per_row=rank_error, better="lower", unit="grades", **SHARED,
           interval=lambda scores, means, seed: _mean(rank_error, scores, float(scores.n_grades - 1))),
    Metric(name="within_one", per_row=within_one, unit="%", proportion=True, **SHARED,
           interval=lambda scores, means, seed: partial(_mean, within_one)(scores)),
)  # fmt: skip
