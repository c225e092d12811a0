"""Linear tasks whose best learners are known: what learns from a context of rows is compared with them."""

from __future__ import annotations

import math

import numpy as np

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.targets.number import Number
from probe.datasets.shared.partitions import ArrayPartition, make_dataset


def load(
    n_features: int = 8,
    n_tasks: int = 20,
    noise: float = 0.0,
    n_train: int = 2000,
    n_test: int = 500,
    seed: int = 0,
) -> Dataset:
    """Draws rows x ~ N(0, 1) and, for each task, numbers w.x + N(0, noise); the test numbers are w.x.

    A column for each task. w is uniform on the sphere of radius sqrt(n_features), so that 1 - R2 on test rows is the
    risk E (prediction - w.x)^2 as a share of n_features, which is known in closed form for a step of gradient descent.
    There are no intercepts. A protocol that draws n training rows makes a context of them.

    Args:
        n_features: Width of the rows.
        n_tasks: Number of tasks.
        noise: Variance of the noise of the training numbers.
        n_train: Rows that contexts are drawn from.
        n_test: Queries.
        seed: Of the draw; it belongs to the dataset, not to the run.
    """
    if n_features < 1 or n_tasks < 1 or not 0 <= noise < np.inf:
        raise InputError(
            f"n_features is {n_features}, n_tasks {n_tasks} and noise {noise}, expected at least 1, at least 1 and a "
            "variance from 0: set dataset.n_features, dataset.n_tasks and dataset.noise"
        )
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((n_features, n_tasks))
    W *= math.sqrt(n_features) / np.linalg.norm(W, axis=0)
    partitions, target = {}, Number()
    for part, n, variance in (("train", n_train, noise), ("test", n_test, 0.0)):
        rows = rng.standard_normal((n, n_features)).astype(np.float32)
        numbers = rows.astype(np.float64) @ W + math.sqrt(variance) * rng.standard_normal((n, n_tasks))
        partitions[part] = ArrayPartition(rows, target.held(numbers), [str(row) for row in range(n)], target=target)
    names = [f"task {k}" for k in range(n_tasks)]
    return make_dataset(f"linear_tasks(noise={noise:g})", names, partitions, rows="vectors", target=target)
