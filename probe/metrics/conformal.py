"""Sets of classes that hold the true one at a chosen rate, whatever the head.

Split conformal prediction with the score s = 1 - probability of the class. With n held-out rows, the threshold is the
ceil((n + 1) level)-th smallest of their labels' scores (infinite if there is none), and the set of a row is all classes
that score no higher. Where held-out and test rows are exchangeable the true class is in the set with a probability
between level and level + 1 / (n + 1), the upper end where no scores are equal.
Source: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; score: Sadinle, Lei and Wasserman,
"Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", 2019, arXiv 1609.00451.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.metrics.intervals import FloatArray, percentile, resampled_means, wilson
from probe.metrics.rows import Measured

LEVEL = 0.9


def threshold(scores: FloatArray, level: float) -> float:
    """The score up to which classes are taken into the set."""
    check_level(level)
    # Without the rounding 0.9 * 10 may come out just above 9.
    rank = int(np.ceil(round((len(scores) + 1) * level, 9)))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")


def check_level(level: float) -> None:
    """Refuses a level that no set can have."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}, expected between 0 and 1: 0.9 is usual")


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
    n_classes = logits.shape[1]
    scores = 1 - softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    if not class_conditional:
        return np.full(n_classes, threshold(scores, level))
    return np.array([threshold(scores[labels == k], level) for k in range(n_classes)])


def prediction_sets(logits: NDArray[Any], thresholds_K: FloatArray) -> NDArray[np.bool_]:
    """Which classes each set holds, (N, K)."""
    return 1 - softmax(logits.astype(np.float64), axis=1) <= thresholds_K


def evaluate_sets(sets_NK: NDArray[np.bool_], labels: IntArray, *, seed: int = 0) -> Measured:
    """`coverage`, `worst_class_coverage`, `mean_set_size` and `empty_sets` (share of rows) on the test rows.

    The intervals are for these thresholds; another held-out sample would give others.
    """
    covered = sets_NK[np.arange(len(labels)), labels]
    sizes = sets_NK.sum(axis=1).astype(np.float64)
    by_class = [wilson(int(covered[labels == k].sum()), int((labels == k).sum())) for k in np.unique(labels)]
    metrics = {
        "coverage": wilson(int(covered.sum()), len(labels)),
        "worst_class_coverage": min(by_class, key=lambda i: i.value),
        "mean_set_size": percentile(float(sizes.mean()), resampled_means(sizes[:, None], seed)[:, 0]),
        "empty_sets": wilson(int((sizes == 0).sum()), len(labels)),
    }
    rows = {"coverage": covered.astype(np.float64), "mean_set_size": sizes, "empty_sets": (sizes == 0).astype(float)}
    return Measured(metrics, rows)
