"""How well the probabilities of one class per row order the rows. No resampling: see `shared.orders`.

Rows are ordered by log-odds, which are as many as the rows where probabilities have long become 0 or 1: the values do
not depend on the scale of the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.metrics.shared.intervals import FloatArray, Interval, jackknife, wilson
from probe.metrics.shared.metric import Metric, Statistic
from probe.metrics.shared.orders import auroc_with_derivative, mean_precision_with_derivative
from probe.metrics.shared.scores.one_class import RowScores

RECIPE = "2"  # by log-odds; "1" was by probabilities
MAX_RANKED_CLASSES = 100


def _macro(statistic: Callable[[NDArray[Any], NDArray[np.bool_]], Statistic], scores: RowScores) -> Statistic:
    """Mean over the classes that some test rows have and others have not, each against all others."""
    labels = scores.labels
    present = [k for k in range(scores.n_classes) if 0 < (labels == k).sum() < len(labels)]
    if not present:
        raise InputError(f"all {len(labels)} rows are of class {labels[0]}, an order needs rows of two: test on more")
    parts = [statistic(scores.class_log_odds[:, k], labels == k) for k in present]
    return float(np.mean([p[0] for p in parts])), np.mean([p[1] for p in parts], axis=0)


def auroc(scores: RowScores) -> Statistic:
    """Area under the ROC curve of each class's probability against all other classes, mean over classes."""
    return _macro(auroc_with_derivative, scores)


def average_precision(scores: RowScores) -> Statistic:
    """Average precision of each class's probability against all other classes, mean over classes (mAP)."""
    return _macro(lambda values, positive: mean_precision_with_derivative(values, positive, positive), scores)


def aurc(scores: RowScores) -> Statistic:
    """Area under the risk-coverage curve: mean risk over all coverages."""
    return mean_precision_with_derivative(scores.log_odds, ~scores.correct, np.ones(len(scores.labels), dtype=bool))


def _aurc_interval(scores: RowScores, means: FloatArray, seed: int) -> Interval:
    """Where every row is right, or none, it is the share of errors and takes Wilson's interval."""
    n_wrong, n = int((~scores.correct).sum()), len(scores.labels)
    return wilson(n_wrong, n) if n_wrong in (0, n) else jackknife(*aurc(scores))


def _has_orders(scores: RowScores) -> bool:
    return scores.n_classes <= MAX_RANKED_CLASSES and scores.labels.min() < scores.labels.max()


METRICS = (
    Metric(name="aurc", of_all=aurc, interval=_aurc_interval, better="lower",
           needs=("predicted_log_odds", "label_rank", "label")),
    Metric(name="auroc", of_all=auroc, interval="jackknife", suits=_has_orders, proportion=True),
    Metric(name="average_precision", of_all=average_precision, interval="jackknife", suits=_has_orders,
           proportion=True),
)  # fmt: skip
