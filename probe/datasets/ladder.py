"""Normal classes on a ladder of means, where naive Bayes needs few rows however many features there are."""

from __future__ import annotations

import math

import numpy as np

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset


def load(n_classes: int = 2, n_features: int = 100, n_test: int = 10_000, seed: int = 0) -> Dataset:
    """Draws 100 n_features training rows of the easy mixture of the source, classes in turn.

    Means are -1, 1, 2, 4, ... on all axes; half of the axes have variance n_features, the others 1, and all are
    independent: naive Bayes is the right model. From three classes on, everything is moved and scaled by 2^(K - 3).
    With 100 features and more the Bayes error is 0 to four digits.
    Source: C. Zheng et al., "Revisiting Discriminative vs. Generative Classifiers: Theory and Implications", 2023,
    arXiv 2302.02334, its released generator.

    Args:
        n_classes: At least 2.
        n_features: At least 2.
        n_test: Rows, classes in turn.
        seed: Of the draw; it belongs to the dataset, not to the run.
    """
    if n_classes < 2 or n_features < 2:
        raise InputError(
            f"n_classes is {n_classes} and n_features {n_features}, expected at least 2 of each: set "
            "dataset.n_classes and dataset.n_features"
        )
    rng = np.random.default_rng(seed)
    means = np.array([-1.0, *(2.0**k for k in range(n_classes - 1))])
    deviations = np.where(np.arange(n_features) < n_features // 2, math.sqrt(n_features), 1.0)
    centre = 2.0 ** (n_classes - 3) if n_classes > 2 else 0.0
    partitions = {}
    for part, n in (("train", 100 * n_features), ("test", n_test)):
        labels = np.arange(n) % n_classes
        rows = rng.standard_normal((n, n_features)) * deviations + means[labels][:, None]
        rows = (rows - centre) / (centre or 1.0)
        partitions[part] = ArrayPartition(rows.astype(np.float32), labels, [str(row) for row in range(n)])
    name = f"ladder(K={n_classes},n={n_features})"
    return make_dataset(name, [str(k) for k in range(n_classes)], partitions, rows="vectors")
