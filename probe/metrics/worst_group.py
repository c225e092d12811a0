"""Accuracies of groups that training and test rows share, such as a class in a place: what a mean over rows hides.

Three means that are often taken for one another: `worst_group`, the lowest; `mean_per_group`, each group alike;
`mean_by_training_groups`, groups by their share of the training rows. The mean over test rows is `top1`.
"""

from __future__ import annotations

import numpy as np

from probe.metrics.shared.intervals import LEVEL, FloatArray, Interval, mean_of, wilson
from probe.metrics.shared.metric import Metric
from probe.metrics.shared.scores import OfGroups


def group_counts(scores: OfGroups) -> tuple[FloatArray, FloatArray]:
    """Test rows, and right ones, of each group, (G,)."""
    size = len(scores.n_train)
    right = np.bincount(scores.groups[scores.rows.correct], minlength=size)
    return np.bincount(scores.groups, minlength=size).astype(float), right.astype(float)


def worst_group(scores: OfGroups) -> Interval:
    """Lowest share of right rows of any group that has test rows; the ends hold for all groups together.

    Source of the measure: Sagawa, Koh, Hashimoto, Liang, "Distributionally Robust Neural Networks for Group Shifts",
    2020, arXiv 1911.08731.
    """
    rows, right = group_counts(scores)
    present = np.flatnonzero(rows)
    level = 1 - (1 - LEVEL) / len(present)
    found = [wilson(right[g], rows[g], level) for g in present]
    return Interval(min(i.value for i in found), min(i.low for i in found), min(i.high for i in found))


def _shares(scores: OfGroups, by_training: bool) -> FloatArray:
    """(G,) weight of each group that has test rows; they sum to 1."""
    present = group_counts(scores)[0] > 0
    weights = np.where(present, scores.n_train if by_training else 1.0, 0.0)
    found: FloatArray = weights / weights.sum()
    return found


def mean_rows(scores: OfGroups, *, by_training: bool) -> FloatArray:
    """(N,) values whose mean is the mean over groups; their variance is that of the stratified estimate."""
    rows, right = group_counts(scores)
    accuracy, weights = right / np.maximum(rows, 1), _shares(scores, by_training)
    own = scores.groups
    off = scores.rows.correct - accuracy[own]
    found: FloatArray = (weights * accuracy).sum() + len(own) * weights[own] / rows[own] * off
    return found


def _mean_per_group(scores: OfGroups, means: FloatArray, seed: int) -> Interval:
    rows, right = group_counts(scores)
    return mean_of([wilson(right[g], rows[g]) for g in np.flatnonzero(rows)])


METRICS = (
    Metric(name="worst_group", reads="groups", interval=lambda scores, means, seed: worst_group(scores), unit="%",
           proportion=True, unranked="it is the lowest of some groups, and which one that is changes with the rows"),
    Metric(name="mean_per_group", reads="groups", per_row=lambda scores: mean_rows(scores, by_training=False),
           interval=_mean_per_group, unit="%", proportion=True),
    Metric(name="mean_by_training_groups", reads="groups", unit="%", proportion=True,
           per_row=lambda scores: mean_rows(scores, by_training=True)),
)  # fmt: skip
