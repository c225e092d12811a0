"""How good the test rows are that a head of numbers would pick: the score of designs from a held-out pool."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from probe.metrics.shared.influences import studentized
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.metric import OF_THE_TARGET, Metric, Statistic
from probe.metrics.shared.scores.number import NumberScores

LEAST_PICKED = 10
"""Rows that a share of the pool holds at the least."""


def top_mean(share: float, scores: NumberScores) -> Statistic:
    """Mean of the true numbers of the share of rows that are predicted highest, mean over the columns.

    Rows predicted alike where the share ends count by what is left of it, so that a constant picks the mean of all.
    """
    columns = zip(scores.labels.T, scores.predicted.T, strict=True)
    parts = [_of_column(share, true, predicted) for true, predicted in columns]
    return float(np.mean([value for value, _ in parts])), np.mean([slopes for _, slopes in parts], axis=0)


def _of_column(share: float, true: FloatArray, predicted: FloatArray) -> Statistic:
    n = len(true)
    least = np.partition(predicted, n - _picked(share, n))[n - _picked(share, n)]
    above, level = predicted > least, predicted == least
    weights = above + level * (_picked(share, n) - above.sum()) / level.sum()
    value = float(weights @ true / weights.sum())
    # A row more moves the end of the share too, over rows whose numbers are those of its neighbours.
    half, place = max(LEAST_PICKED, int(np.sqrt(n))) // 2, n - _picked(share, n)
    near = np.argsort(predicted, kind="stable")[max(0, place - half) : place + half]
    at_end = float(true[near].mean())
    slopes = (weights * (true - at_end) * n / weights.sum() - (value - at_end)) / n
    return value, slopes - slopes.mean()


def _picked(share: float, n_rows: int) -> int:
    return int(np.ceil(round(share * n_rows, 9)))


def _top(name: str, share: float) -> Metric:
    of_all = partial(top_mean, share)
    suits: Any = lambda scores: _picked(share, len(scores.labels)) >= LEAST_PICKED  # noqa: E731
    return Metric(name=name, of_all=of_all, targets=("number",), unit=OF_THE_TARGET, signed=True, suits=suits,
                  needs=("label", "predicted"), tolerance=1e-6,
                  interval=lambda scores, means, seed: studentized(*of_all(scores), scores.groups))  # fmt: skip


METRICS = (_top("top_tenth", 0.1), _top("top_hundredth", 0.01))
