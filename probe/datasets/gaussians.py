"""Normal classes whose Bayes error is known: a yardstick for heads."""

from __future__ import annotations

import math

import numpy as np

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset


def load(
    n_classes: int = 10,
    n_features: int = 64,
    distance: float = 4.0,
    n_train: int = 2000,
    n_test: int = 2000,
    seed: int = 0,
) -> Dataset:
    """Draws equally likely classes with identity covariance, all means equally far from each other.

    Class k has its mean at `distance / sqrt(2)` on axis k, so the nearest mean is the Bayes classifier;
    `notes["bayes_error"]` is its error.

    Args:
        n_classes: At least 2.
        n_features: At least `n_classes`.
        distance: Between two means, in standard deviations.
        n_train: Rows, classes in turn.
        n_test: Rows, classes in turn.
        seed: Of the draw; it belongs to the dataset, not to the run.
    """
    if not 2 <= n_classes <= n_features:
        raise InputError(
            f"n_classes is {n_classes} and n_features {n_features}, expected 2 <= n_classes <= n_features: change one"
        )
    if not (distance >= 0 and math.isfinite(distance)):
        raise InputError(f"distance is {distance}, expected a finite number from 0: set dataset.distance=4, say")
    rng = np.random.default_rng(seed)
    partitions = {}
    for part, n in (("train", n_train), ("test", n_test)):
        labels = np.arange(n) % n_classes
        rows = rng.standard_normal((n, n_features), dtype=np.float32)
        rows[np.arange(n), labels] += np.float32(distance / math.sqrt(2))
        partitions[part] = ArrayPartition(rows, labels, [str(row) for row in range(n)])
    notes = {"bayes_error": bayes_error(n_classes, distance)}
    return make_dataset("gaussians", [str(k) for k in range(n_classes)], partitions, notes, rows="vectors")


def bayes_error(n_classes: int, distance: float) -> float:
    """Error of the Bayes classifier for equidistant means under identity covariance.

    With s = distance / sqrt(2), the coordinate of the true class is N(s, 1) and must exceed K - 1 independent N(0, 1):
    1 - integral of phi(t - s) Phi(t)^(K-1) dt. For K = 2 that is Phi(-distance / 2).
    """
    from scipy.integrate import quad
    from scipy.stats import norm

    s = distance / math.sqrt(2)
    # 1 - Phi^(K-1) keeps its digits where the error is tiny.
    miss, _ = quad(
        lambda t: -norm.pdf(t - s) * np.expm1((n_classes - 1) * norm.logcdf(t)), s - 12, s + 12, epsabs=1e-13
    )
    return float(miss)
