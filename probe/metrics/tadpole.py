"""The measures of the TADPOLE challenge: of classes mAUC and BCA, of numbers with 50 % intervals WES and CPA.

Source: R. Marinescu et al., "The Alzheimer's Disease Prediction Of Longitudinal Evolution (TADPOLE) Challenge", 2020,
arXiv 2002.03419. Departure: equal probabilities count half in mAUC, where its code takes the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any, ClassVar

import numpy as np

from probe.core.base import IntArray
from probe.metrics.shared.influences import LOGARITHM, studentized
from probe.metrics.shared.intervals import FloatArray, Interval, between, mean_of, wilson
from probe.metrics.shared.metric import OF_THE_TARGET, Metric, Statistic
from probe.metrics.shared.orders import auroc_with_derivative
from probe.metrics.shared.scores.number import Numbers
from probe.metrics.shared.scores.one_class import RowScores

MAX_CLASSES = 20
DIGITS = 5
"""Of log-odds: what differs beyond them differs by rounding, and is a tie."""
LEVEL = 0.5
"""Of the intervals that WES and CPA are about."""


@dataclass(frozen=True)
class HalfIntervals:
    """Intervals of the test rows that are to hold half of the numbers.

    Attributes:
        low, high: (N, Q) ends.
        labels: (N, Q) true numbers.
        predicted: (N, Q) means.
        groups: (N,) as `NumberScores` has them.
    """

    target: ClassVar[str] = "number"

    low: Numbers
    high: Numbers
    labels: Numbers
    predicted: Numbers
    groups: IntArray | None = None


def weighted_error(scores: HalfIntervals) -> Statistic:
    """WES: sum of C |e| / sum of C, C = 1 / width of the interval, mean over the columns."""
    weights = 1 / (scores.high - scores.low)
    errors = np.abs(scores.labels - scores.predicted)
    values = (weights * errors).sum(axis=0) / weights.sum(axis=0)
    return float(values.mean()), (weights * (errors - values) / weights.sum(axis=0)).mean(axis=1)


def coverage_error(scores: HalfIntervals) -> Interval:
    """CPA: distance from a half of the share of numbers inside their intervals, mean over the columns.

    Its interval is that of the share, folded; rows of a group count as one.
    """
    inside = ((scores.low < scores.labels) & (scores.labels < scores.high)).astype(np.float64)
    return mean_of([_folded(column, scores.groups) for column in inside.T], overlap=float(inside.shape[1]))


def _folded(inside: FloatArray, groups: IntArray | None) -> Interval:
    share = float(inside.mean())
    if groups is None:
        found = wilson(int(inside.sum()), len(inside))
    else:
        slopes: FloatArray = (inside - share) / len(inside)
        parts: FloatArray = np.bincount(groups, weights=slopes)[np.unique(groups)].astype(np.float64)
        found = between(share, parts, float(len(parts)))
    ends = sorted(abs(end - LEVEL) for end in (found.low, found.high))
    return Interval(abs(share - LEVEL), 0.0 if found.low <= LEVEL <= found.high else ends[0], ends[1])


def balanced(scores: RowScores) -> Statistic:
    """BCA: mean over the classes of half of the sum of sensitivity and specificity, one against the rest.

    A rate of no rows counts 1/2. It is not the mean recall, which `mean_per_class` is: guessing one class gives 1/2.
    """
    value, slopes = 0.0, np.zeros(len(scores.labels))
    for k in range(scores.n_classes):
        of_class, said = scores.labels == k, scores.predicted == k
        for rows, right in ((of_class, said), (~of_class, ~said)):
            rate = float(right[rows].mean()) if rows.any() else 0.5
            value += rate
            slopes[rows] += (right[rows] - rate) / max(int(rows.sum()), 1)
    return value / (2 * scores.n_classes), slopes / (2 * scores.n_classes)


def _balanced_interval(scores: RowScores) -> Interval:
    """That of the derivative in Wilson's form, as if of the rows of the rarest class alone where nothing is wrong."""
    value, slopes = balanced(scores)
    counts = np.bincount(scores.labels, minlength=scores.n_classes)
    return between(value, slopes, float(scores.n_classes * counts[counts > 0].min()), float(len(scores.labels)))


def pairs_auroc(scores: RowScores) -> Statistic:
    """mAUC: mean over ordered pairs of classes of the area under the curve of one's probability, among their rows.

    Source: D. Hand and R. Till, "A Simple Generalisation of the Area Under the ROC Curve for Multiple Class
    Classification Problems", 2001. Classes without a test row have no pair.
    """
    odds, pairs = scores.class_log_odds.round(DIGITS), list(permutations(np.unique(scores.labels).tolist(), 2))
    total, slopes = 0.0, np.zeros(len(scores.labels))
    for i, j in pairs:
        rows = np.flatnonzero((scores.labels == i) | (scores.labels == j))
        value, of_pair = auroc_with_derivative(odds[rows, i], scores.labels[rows] == i)
        total += value
        slopes[rows] += of_pair
    return total / len(pairs), slopes / len(pairs)


def _pairs_interval(scores: RowScores) -> Interval:
    """That of the derivative in Wilson's form, as if of the rows of the rarest class alone where all is in order."""
    value, slopes = pairs_auroc(scores)
    counts = np.bincount(scores.labels)
    return between(value, slopes, float(counts[counts > 0].min()), float(len(scores.labels)))


def _ranked(scores: RowScores) -> bool:
    return scores.logits is not None and scores.n_classes <= MAX_CLASSES and len(np.unique(scores.labels)) > 1


def _wide(scores: HalfIntervals) -> bool:
    """Whether each interval has a width and an end: one without either has no weight."""
    width = scores.high - scores.low
    return bool((np.isfinite(width) & (width > 0)).all())


OF_INTERVALS: dict[str, Any] = {"targets": ("number",), "reads": "half", "better": "lower"}
METRICS = (
    Metric(name="mAUC", of_all=pairs_auroc, interval=lambda scores, means, seed: _pairs_interval(scores),
           proportion=True, suits=_ranked),
    Metric(name="BCA", of_all=balanced, interval=lambda scores, means, seed: _balanced_interval(scores), unit="%",
           proportion=True),
    Metric(name="WES", of_all=weighted_error, unit=OF_THE_TARGET, suits=_wide, **OF_INTERVALS,
           interval=lambda scores, means, seed: studentized(*weighted_error(scores), scores.groups, LOGARITHM)),
    Metric(name="CPA", unit="%", **OF_INTERVALS, interval=lambda scores, means, seed: coverage_error(scores),
           unranked="it is the distance of a share from a half, in which no row has a part"),
)  # fmt: skip
