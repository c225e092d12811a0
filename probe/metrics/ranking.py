"""How well scores order rows. Intervals come from the infinitesimal jackknife, so no resampling is needed.

With w_m the weight of row m, a statistic has variance sum_m (d statistic / d w_m)^2 at equal weights (B. Efron, "The
Jackknife, the Bootstrap and Other Resampling Plans", 1982); a mean over classes has the mean of their derivatives, so
that one row's part in all classes is accounted for. Where an order is perfect (value 1) there is no spread to be
seen, and the interval has no width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, softmax

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.metrics.intervals import QUANTILES, FloatArray, Interval, wilson
from probe.metrics.scores import RowScores

BoolArray = NDArray[np.bool_]


def auroc_with_derivative(scores: FloatArray, positive: BoolArray) -> tuple[float, FloatArray]:
    """Chance that a positive row scores above a negative one, ties count half; and its derivative by row weight.

    The derivative holds the placement values of DeLong, DeLong and Clarke-Pearson, 1988.
    """
    order = np.argsort(scores)  # equal scores are taken together below, in any order
    hit = positive[order]
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))

    def below_or_half(of: BoolArray) -> FloatArray:
        """Share of some rows that score below each row, ties count half, in the order of the scores."""
        counts = np.add.reduceat(of, starts, dtype=np.float64)
        return ((np.cumsum(counts) - counts / 2) / counts.sum())[group]

    below = np.empty(len(scores))
    below[order] = np.where(hit, below_or_half(~hit), 1 - below_or_half(hit))
    value = float(below[positive].mean())
    return value, (below - value) / np.where(positive, positive.sum(), (~positive).sum())


def mean_precision_with_derivative(scores: FloatArray, hit: BoolArray, over: BoolArray) -> tuple[float, FloatArray]:
    """Mean, over the rows `over`, of the share of hits among the rows that score no lower; and its derivative.

    With `over = hit` this is average precision; with all rows, and errors as hits, the area under the risk-coverage
    curve. With a = over, h = hit, M_i and E_i the rows and hits scoring no lower than row i, and n = sum a:
    d/dw_m = [a_m (E_m / M_m - value) + sum_{i scores no higher than m} a_i (h_m / M_i - E_i / M_i^2)] / n.
    """
    order = np.argsort(-scores)  # equal scores are taken together below, in any order
    h, a = hit[order].astype(np.float64), over[order].astype(np.float64)
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    ends = np.append(starts[1:], len(order))
    sizes = ends - starts
    M = np.repeat(ends, sizes)
    E = np.repeat(np.cumsum(h)[ends - 1], sizes)
    n = a.sum()
    value = float((a * E / M).sum() / n)
    from_here = np.repeat(starts, sizes)
    tail_hit = np.cumsum((a / M)[::-1])[::-1][from_here]
    tail_all = np.cumsum((a * E / M**2)[::-1])[::-1][from_here]
    derivative = np.empty(len(order))
    derivative[order] = (a * (E / M - value) + h * tail_hit - tail_all) / n
    return value, derivative


def interval(value: float, derivative: FloatArray) -> Interval:
    """95 % interval of a statistic between 0 and 1 from its derivative by row weight, (N,)."""
    half = float(ndtri(QUANTILES[1]) * np.sqrt((derivative**2).sum()))
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def _macro(
    statistic: Callable[[FloatArray, BoolArray], tuple[float, FloatArray]],
    logits: NDArray[Any],
    labels: IntArray,
) -> Interval:
    """Mean over the classes that some test rows have and others have not, each against all others."""
    probabilities = softmax(logits.astype(np.float64), axis=1)
    present = [k for k in range(logits.shape[1]) if 0 < (labels == k).sum() < len(labels)]
    if not present:
        raise InputError(f"all {len(labels)} rows are of class {labels[0]}, an order needs rows of two: test on more")
    parts = [statistic(probabilities[:, k], labels == k) for k in present]
    return interval(float(np.mean([p[0] for p in parts])), np.mean([p[1] for p in parts], axis=0))


def auroc(logits: NDArray[Any], labels: IntArray) -> Interval:
    """Area under the ROC curve of each class's probability against all other classes, mean over classes."""
    return _macro(auroc_with_derivative, logits, labels)


def average_precision(logits: NDArray[Any], labels: IntArray) -> Interval:
    """Average precision of each class's probability against all other classes, mean over classes (mAP)."""
    return _macro(lambda scores, positive: mean_precision_with_derivative(scores, positive, positive), logits, labels)


def risk_coverage(confidence: FloatArray, correct: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Coverage and risk when only the most confident rows are answered, one point per distinct confidence.

    Coverage is the share of rows answered, risk the share of errors among them; rows of equal confidence are answered
    together. Source: El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification", 2010.
    """
    order = np.argsort(-confidence)
    ends = np.flatnonzero(np.diff(confidence[order], append=np.nan) != 0)
    return (ends + 1) / len(order), np.cumsum(~correct[order])[ends] / (ends + 1)


def aurc(scores: RowScores) -> Interval:
    """Area under the risk-coverage curve: mean risk over all coverages, lower is better.

    Where every row is right, or none, it is the share of errors and takes Wilson's interval.
    """
    n_wrong, n = int((~scores.correct).sum()), len(scores.labels)
    if n_wrong in (0, n):
        return wilson(n_wrong, n)
    return interval(*mean_precision_with_derivative(scores.confidence, ~scores.correct, np.ones(n, dtype=bool)))
