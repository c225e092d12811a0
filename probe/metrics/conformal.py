"""Sets of classes that hold the true one at a chosen rate, whatever the head.

Split conformal prediction with the score s = 1 - probability of the class. With n held-out rows, the threshold is the
ceil((n + 1) level)-th smallest of their labels' scores (infinite if there is none), and the set of a row is all classes
that score no higher. Where held-out and test rows are exchangeable the true class is in the set with a probability
between level and level + 1 / (n + 1), the upper end where no scores are equal.
Source: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; score: Sadinle, Lei and Wasserman,
"Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", 2019, arXiv 1609.00451.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from probe.core.base import IntArray
from probe.metrics.shared.intervals import FloatArray, Interval, wilson
from probe.metrics.shared.metric import Metric
from probe.metrics.shared.thresholds import LEVEL as LEVEL
from probe.metrics.shared.thresholds import check_level as check_level
from probe.metrics.shared.thresholds import threshold as threshold


def thresholds(
    logits: NDArray[Any], labels: IntArray, level: float = LEVEL, *, class_conditional: bool = False
) -> FloatArray:
    """Threshold of each class, (K,), from rows that the head was fitted on neither directly nor by selection.

    Args:
        logits: (n, K), of the held-out rows.
        labels: (n,) class codes.
        level: Wanted chance that the set holds the true class.
        class_conditional: Give every class its own threshold from its own rows, so that the level holds within each
            class; a class with fewer than level / (1 - level) rows is then in every set.
    """
    scores = nonconformity(logits, labels)
    return thresholds_of(scores, labels, logits.shape[1], level, class_conditional=class_conditional)


def nonconformity(logits: NDArray[Any], labels: IntArray) -> FloatArray:
    """1 - probability of the label, (n,)."""
    return 1 - softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]


def thresholds_of(
    scores: FloatArray, labels: IntArray, n_classes: int, level: float, *, class_conditional: bool
) -> FloatArray:
    """As `thresholds`, from the scores (n,) of the held-out rows."""
    if not class_conditional:
        return np.full(n_classes, threshold(scores, level))
    return np.array([threshold(scores[labels == k], level) for k in range(n_classes)])


def rows_needed(level: float) -> int:
    """Held-out rows from which on a set at a level can leave a class out."""
    return int(np.ceil(round(level / (1 - level), 9)))


def prediction_sets(logits: NDArray[Any], thresholds_K: FloatArray) -> NDArray[np.bool_]:
    """Which classes each set holds, (N, K)."""
    return 1 - softmax(logits.astype(np.float64), axis=1) <= thresholds_K


@dataclass(frozen=True)
class SetScores:
    """Sets of classes for the test rows.

    Attributes:
        sets: (N, K) which classes each holds.
        labels: (N,) true class codes.
    """

    target: ClassVar[str] = "one_class"

    sets: NDArray[np.bool_]
    labels: IntArray


def covered(scores: SetScores) -> FloatArray:
    """1 where the set holds the true class. The interval is for these thresholds; other held-out rows give others."""
    return scores.sets[np.arange(len(scores.labels)), scores.labels].astype(np.float64)


def size(scores: SetScores) -> FloatArray:
    """Classes in the set."""
    return scores.sets.sum(axis=1).astype(np.float64)


def empty(scores: SetScores) -> FloatArray:
    """1 where the set holds no class."""
    return (size(scores) == 0).astype(np.float64)


def worst_class_coverage(scores: SetScores) -> Interval:
    """The lowest coverage of the rows of any class."""
    inside, labels = covered(scores), scores.labels
    by_class = [wilson(int(inside[labels == k].sum()), int((labels == k).sum())) for k in np.unique(labels)]
    return min(by_class, key=lambda interval: interval.value)


_OF_SETS = (
    Metric(name="coverage", reads="sets", per_row=covered, interval="wilson", better="target",
           target="conformal_level", unit="%", proportion=True, binary=True),
    Metric(name="worst_class_coverage", reads="sets", unit="%", proportion=True,
           interval=lambda scores, means, seed: worst_class_coverage(scores), better="target",
           target="conformal_level",
           unranked="it is the lowest of many classes, and which one that is changes with the rows"),
    Metric(name="mean_set_size", reads="sets", per_row=size, better="lower", unit="classes"),
    Metric(name="empty_sets", reads="sets", per_row=empty, interval="wilson", better="lower", unit="%",
           proportion=True, binary=True),
)  # fmt: skip
METRICS = (
    *_OF_SETS,
    *(replace(m, name=f"class_conditional_{m.name}", reads="class_conditional_sets") for m in _OF_SETS),
)
