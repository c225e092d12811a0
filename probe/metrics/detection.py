"""How many rows of a class are found while hardly any other row is taken for one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.metrics.shared.intervals import QUANTILES, FloatArray, Interval, mean_of, wilson
from probe.metrics.shared.metric import Metric, Statistic
from probe.metrics.shared.scores.one_class import RowScores

RATE = 0.01
MAX_CLASSES = 100
BoolArray = NDArray[np.bool_]


def recall_at(values: NDArray[Any], positive: BoolArray, n_above: int) -> float:
    """Share of positive rows that score above all but `n_above` of the other rows."""
    return float((values[positive] > _threshold(values[~positive], n_above)).mean())


def recall_with_derivative(values: NDArray[Any], positive: BoolArray, rate: float = RATE) -> Statistic:
    """Share of positive rows above the lowest threshold that at most `rate` of the others exceed; and its derivative.

    A row of the others moves the threshold, by as much as it moves their share above it; what that does to the recall
    is the slope of the ROC curve there, seen over the ranks that the threshold may well have had.

    Args:
        values: (N,) scores; of equal ones none counts as above another.
        positive: (N,) which rows are to be found.
        rate: Of false positives, at most.
    """
    others = values[~positive]
    n_above = _allowed(len(others), rate)
    threshold = _threshold(others, n_above)
    value = recall_at(values, positive, n_above)
    fewest, most = _ranks(len(others), rate)
    rise = recall_at(values, positive, most) - recall_at(values, positive, fewest)
    slope = rise * len(others) / max(1, most - fewest)
    above = values > threshold
    derivative = np.where(positive, (above - value) / positive.sum(), 0.0)
    share = above[~positive].mean()
    derivative[~positive] = -slope * (above[~positive] - share) / len(others)
    return value, derivative


def recall_interval(values: NDArray[Any], positive: BoolArray, rate: float = RATE) -> Interval:
    """Of the recall at the threshold that `rate` of all other rows would exceed, of which only some were seen.

    Two parts, added as distances of independent ones: Wilson's interval of the share of positive rows, and the recalls
    at the ranks among the others between which that threshold lies, by the binomial distribution, whatever theirs is.
    Below 368 others it may lie beyond all of them, and the recall may be as low as 0.
    """
    n_others = int((~positive).sum())
    share = wilson(
        int((values[positive] > _threshold(values[~positive], _allowed(n_others, rate))).sum()), int(positive.sum())
    )
    fewest, most = _ranks(n_others, rate)
    # With no row above the threshold it may lie anywhere beyond the largest.
    lowest = 0.0 if fewest < 0 else recall_at(values, positive, fewest)
    highest = recall_at(values, positive, min(most, n_others))
    low = share.value - math.hypot(share.value - share.low, share.value - min(lowest, share.value))
    high = share.value + math.hypot(share.high - share.value, max(highest, share.value) - share.value)
    return Interval(share.value, max(0.0, low), min(1.0, high))


def _allowed(n_others: int, rate: float) -> int:
    return math.floor(round(rate * n_others, 9))


def _ranks(n_others: int, rate: float) -> tuple[int, int]:
    """How many others may stand above a threshold that `rate` of all of them exceed; -1 where perhaps not even one."""
    from scipy.stats import binom  # takes 0.4 s to import, which everything that names a metric would wait for

    fewest, most = (int(binom.ppf(q, n_others, rate)) for q in QUANTILES)
    return fewest - 1, most


def _threshold(others: NDArray[Any], n_above: int) -> float:
    """The largest score of the others but for `n_above` of them."""
    n_above = max(0, n_above)
    return float(np.sort(others)[-1 - n_above]) if n_above < len(others) else -math.inf


def _searched(scores: RowScores) -> list[tuple[NDArray[Any], BoolArray]]:
    """What is looked for: of two classes the second, of more each that some rows have and others have not."""
    labels = scores.labels
    classes: IntArray = np.array([1]) if scores.n_classes == 2 else np.unique(labels)
    if labels.min() == labels.max():
        raise InputError(f"all {len(labels)} rows are of class {labels[0]}, a recall needs rows of two: test on more")
    return [(scores.class_log_odds[:, k], labels == k) for k in classes]


def recall(scores: RowScores) -> Statistic:
    """Share of the rows of a class that score above all but 1 % of the others, mean over classes; of two the second."""
    parts = [recall_with_derivative(values, positive) for values, positive in _searched(scores)]
    derivative: FloatArray = np.mean([slopes for _, slopes in parts], axis=0)
    return float(np.mean([value for value, _ in parts])), derivative


def _interval(scores: RowScores, means: FloatArray, seed: int) -> Interval:
    found = [recall_interval(values, positive) for values, positive in _searched(scores)]
    return found[0] if len(found) == 1 else mean_of(found, overlap=2.0)


def _suits(scores: RowScores) -> bool:
    return scores.n_classes <= MAX_CLASSES and bool(scores.labels.min() < scores.labels.max())


METRICS = (Metric(name="recall_at_1_fpr", of_all=recall, interval=_interval, suits=_suits, proportion=True),)
