"""How well scores order rows: statistics with their derivatives by the weight of each row.

A mean over classes has the mean of their derivatives, so that one row's part in all classes is accounted for. Where an
order is perfect (value 1) there is no spread to be seen, and the interval has no width.

`ties` and `mean_precision_with_derivative` take an axis of several runs before that of the rows, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.intervals import FloatArray, Interval, between
from probe.metrics.shared.metric import Statistic

BoolArray = NDArray[np.bool_]


def _starts(ordered: NDArray[Any]) -> IntArray:
    """Where each run of equal scores begins; infinities equal themselves."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def ties(ordered: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """First and last place, (..., N) each, of the equal scores that every place of sorted ones, (..., N), is among."""
    n = ordered.shape[-1]
    places, differs = np.arange(n), ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*ordered.shape[:-1], 1), dtype=bool)
    first = np.where(np.concatenate([edge, differs], axis=-1), places, 0)
    last = np.where(np.concatenate([differs, edge], axis=-1), places, n)
    return np.maximum.accumulate(first, axis=-1), np.minimum.accumulate(last[..., ::-1], axis=-1)[..., ::-1]


def auroc_with_derivative(scores: NDArray[Any], positive: BoolArray) -> Statistic:
    """Chance that a positive row scores above a negative one, ties count half; and its derivative by row weight.

    The derivative holds the placement values of DeLong, DeLong and Clarke-Pearson, 1988.
    """
    order = np.argsort(scores)  # equal scores are taken together below, in any order
    hit = positive[order]
    starts = _starts(scores[order])
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))

    def below_or_half(of: BoolArray) -> FloatArray:
        """Share of some rows that score below each row, ties count half, in the order of the scores."""
        counts = np.add.reduceat(of, starts, dtype=np.float64)
        return ((np.cumsum(counts) - counts / 2) / counts.sum())[group]

    below = np.empty(len(scores))
    below[order] = np.where(hit, below_or_half(~hit), 1 - below_or_half(hit))
    value = float(below[positive].mean())
    return value, (below - value) / np.where(positive, positive.sum(), (~positive).sum())


def mean_precision_with_derivative(scores: NDArray[Any], hit: BoolArray, over: BoolArray) -> Statistic:
    """Mean, over the rows `over`, of the share of hits among the rows that score no lower; and its derivative.

    With `over = hit` this is average precision; with all rows, and errors as hits, the area under the risk-coverage
    curve. With a = over, h = hit, M_i and E_i the rows and hits scoring no lower than row i, and n = sum a:
    d/dw_m = [a_m (E_m / M_m - value) + sum_{i scores no higher than m} a_i (h_m / M_i - E_i / M_i^2)] / n.
    """

    def of(values: NDArray[Any], places: IntArray) -> NDArray[Any]:
        return np.take_along_axis(values, places, axis=-1)

    def from_here_on(values: FloatArray) -> FloatArray:
        return of(np.cumsum(values[..., ::-1], axis=-1)[..., ::-1], first)

    order = np.argsort(-scores, axis=-1)  # equal scores are taken together below, in any order
    h, a = of(hit, order).astype(np.float64), of(over, order).astype(np.float64)
    first, last = ties(of(scores, order))
    M, E = last + 1, of(np.cumsum(h, axis=-1), last)
    n = a.sum(axis=-1, keepdims=True)
    value = (a * E / M).sum(axis=-1, keepdims=True) / n
    derivative = np.empty(order.shape)
    slopes = a * (E / M - value) + h * from_here_on(a / M) - from_here_on(a * E / M**2)
    np.put_along_axis(derivative, order, slopes / n, axis=-1)
    return (float(value[0]) if value.ndim == 1 else value[:, 0]), derivative


def interval_of_order(statistic: Statistic, scores: NDArray[Any], positive: BoolArray) -> Interval:
    """The interval of a statistic of how scores order positive rows and others, such as the area under the ROC curve.

    Where an order is perfect, or nearly, its derivative shows little of its variance; there the largest that it may
    have counts too, value (1 - value) / (rows of the rarer kind) (Birnbaum and Klose, "Bounds for the variance of the
    Mann-Whitney statistic", 1957).
    """
    rarer = float(min(positive.sum(), (~positive).sum()))
    return between(*statistic, rarer, _out_of_order(scores, positive))


def _out_of_order(scores: NDArray[Any], positive: BoolArray) -> float:
    """Positive rows that score no higher than some other row, or other rows that score no lower than some positive."""
    low, high = scores[positive].min(), scores[~positive].max()
    return float(min((scores[positive] <= high).sum(), (scores[~positive] >= low).sum()))


def risk_coverage(confidence: NDArray[Any], correct: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Coverage and risk when only the most confident rows are answered, one point per distinct confidence.

    Coverage is the share of rows answered, risk the share of errors among them; rows of equal confidence are answered
    together. Any order of the confidences serves, such as their log-odds. Source: El-Yaniv and Wiener, "On the
    Foundations of Noise-free Selective Classification", 2010.
    """
    order = np.argsort(-confidence)
    ends = np.append(_starts(confidence[order])[1:], len(order)) - 1
    return (ends + 1) / len(order), np.cumsum(~correct[order])[ends] / (ends + 1)
