"""How well the probabilities of one class per row order the rows. No resampling: see `shared.orders`.

Rows are ordered by log-odds, which are as many as the rows where probabilities have long become 0 or 1: the values do
not depend on the scale of the logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.metrics.shared.intervals import FloatArray, Interval, mean_of, normal_half, wilson
from probe.metrics.shared.metric import Metric, Statistic
from probe.metrics.shared.orders import auroc_with_derivative, interval_of_order, mean_precision_with_derivative
from probe.metrics.shared.scores.one_class import RowScores

RECIPE = "4"  # aurc by number and places of errors; "3" for orders not seen broken; "2" by log-odds
MAX_RANKED_CLASSES = 100
BoolArray = NDArray[np.bool_]
Order = Callable[[NDArray[Any], BoolArray], Statistic]


def _of_classes(order: Order, scores: RowScores) -> tuple[IntArray, list[Statistic]]:
    """The classes that some test rows have and others have not, and the order of each against all others."""
    labels = scores.labels
    present = np.array([k for k in range(scores.n_classes) if 0 < (labels == k).sum() < len(labels)], dtype=np.int64)
    if not len(present):
        raise InputError(f"all {len(labels)} rows are of class {labels[0]}, an order needs rows of two: test on more")
    return present, [order(scores.class_log_odds[:, k], labels == k) for k in present]


def _macro(order: Order, scores: RowScores) -> Statistic:
    _, parts = _of_classes(order, scores)
    return float(np.mean([p[0] for p in parts])), np.mean([p[1] for p in parts], axis=0)


def _macro_interval(order: Order, scores: RowScores) -> Interval:
    """The intervals of the classes, combined: a row out of order is so for its own class and that it is taken for.

    The result is no narrower than the derivative of the mean says.
    """
    present, parts = _of_classes(order, scores)
    found = [
        interval_of_order(part, scores.class_log_odds[:, k], scores.labels == k)
        for k, part in zip(present, parts, strict=True)
    ]
    mean, half = mean_of(found, overlap=2.0), normal_half(np.mean([slopes for _, slopes in parts], axis=0))
    low, high = min(mean.low, mean.value - half), max(mean.high, mean.value + half)
    return Interval(mean.value, max(0.0, low), min(1.0, high))


def auroc(scores: RowScores) -> Statistic:
    """Area under the ROC curve of each class's probability against all other classes, mean over classes."""
    return _macro(auroc_with_derivative, scores)


def _precision(values: FloatArray, positive: BoolArray) -> Statistic:
    return mean_precision_with_derivative(values, positive, positive)


def average_precision(scores: RowScores) -> Statistic:
    """Average precision of each class's probability against all other classes, mean over classes (mAP)."""
    return _macro(_precision, scores)


def aurc(scores: RowScores) -> Statistic:
    """Area under the risk-coverage curve: mean risk over all coverages."""
    return mean_precision_with_derivative(scores.log_odds, ~scores.correct, np.ones(scores.correct.shape, dtype=bool))


def _aurc_interval(scores: RowScores, means: FloatArray, seed: int) -> Interval:
    """Two ratios combined as independent ones: of Wilson's ends of the share of errors, and of where these stand.

    Covers .90 to .99 from 100 rows on, for 80 to 99.5 % right, where the wider of the two alone covers .75 to .96.
    """
    n_wrong, n = int((~scores.correct).sum()), len(scores.labels)
    share = wilson(n_wrong, n)
    if n_wrong in (0, n):
        return share
    value, derivative = aurc(scores)
    places = normal_half(derivative) / value
    low, high = (float(np.hypot(np.log(end / share.value), places)) for end in (share.low, share.high))
    return Interval(value, value * math.exp(-low), min(1.0, value * math.exp(high)))


def _has_orders(scores: RowScores) -> bool:
    return scores.n_classes <= MAX_RANKED_CLASSES and scores.labels.min() < scores.labels.max()


METRICS = (
    Metric(name="aurc", of_all=aurc, interval=_aurc_interval, better="lower",
           needs=("predicted_log_odds", "label_rank", "label"), stacks=True),
    Metric(name="auroc", of_all=auroc, suits=_has_orders, proportion=True,
           interval=lambda scores, means, seed: _macro_interval(auroc_with_derivative, scores)),
    Metric(name="average_precision", of_all=average_precision, suits=_has_orders, proportion=True,
           interval=lambda scores, means, seed: _macro_interval(_precision, scores)),
)  # fmt: skip
