"""How far two numbers of each row rise and fall together, with the derivative by the weight of each row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.metrics.shared.influences import above, concordance
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.metric import Statistic


def pearson(true: FloatArray, predicted: FloatArray) -> Statistic:
    """Correlation r = mean of u v, with u and v the numbers at mean 0 and variance 1."""
    u, v = (_standard(values) for values in (true, predicted))
    value = float((u * v).mean())
    return value, (u * v - value * (u**2 + v**2) / 2) / len(u)


def spearman(true: FloatArray, predicted: FloatArray) -> Statistic:
    """Correlation of the ranks, of equal numbers the mean rank.

    A row moves the ranks of all others too: rank_i = sum_j k(x_j, x_i) / N with k = 1 below, 1/2 where equal.
    """
    n = len(true)
    ranks = [1 - above(values, np.full(n, 1 / n)) for values in (true, predicted)]
    (u, v), deviations = map(_standard, ranks), [values.std() for values in ranks]
    value = float((u * v).mean())
    moved = above(true, v - value * u) / deviations[0] + above(predicted, u - value * v) / deviations[1]
    return value, (u * v - value * (u**2 + v**2) / 2 + moved / n) / n


def kendall(true: FloatArray, predicted: FloatArray) -> Statistic:
    """Tau-b = A / sqrt(B C): of all pairs of rows A agree in order more than disagree, B and C are no ties."""
    n = len(true)
    pairs = np.stack([concordance(true, predicted), concordance(true, true), concordance(predicted, predicted)])
    of_rows = pairs / (n - 1)
    A, B, C = of_rows.mean(axis=1)
    value = float(A / np.sqrt(B * C))
    a, b, c = of_rows - of_rows.mean(axis=1, keepdims=True)
    return value, 2 * (a / np.sqrt(B * C) - value * (b / B + c / C) / 2) / n


def varies(values: NDArray[Any]) -> bool:
    """Whether each column has two numbers, further apart than rounding."""
    return bool((np.ptp(values, axis=0) > 1e-12 * np.abs(values).max(axis=0)).all())


def _standard(values: FloatArray) -> FloatArray:
    return (values - values.mean()) / values.std()
