"""Numbers to predict: members are combined as predictions (N, Q)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from probe.core.targets.number import columns_of
from probe.experiment.ensembles.views import Arrays
from probe.metrics.shared.intervals import FloatArray

NEEDED = "predicted"


def mean(predicted: FloatArray) -> FloatArray:
    """sum_m p_m / M."""
    return weighted(predicted, np.full(len(predicted), 1 / len(predicted)))


def median(predicted: FloatArray) -> FloatArray:
    """The middle one of each number; of an even number of members the mean of both in the middle."""
    found: FloatArray = np.median(predicted, axis=0)
    return found


def weighted(predicted: FloatArray, weights: FloatArray) -> FloatArray:
    """sum_m w_m p_m."""
    found: FloatArray = np.tensordot(weights, predicted, axes=1)
    return found


KINDS: Mapping[str, Callable[..., FloatArray]] = {"mean": mean, "median": median, "weighted": weighted}
"""From predictions (M, N, Q) to those of the ensemble."""


def view(arrays: Arrays, temperature: float) -> FloatArray:
    """(N, Q) predictions; numbers have no temperature."""
    return columns_of(arrays["predicted"])


def temperature(arrays: Arrays) -> float:
    """None is needed."""
    return 1.0


def weigh(views: FloatArray, labels: NDArray[Any]) -> FloatArray:
    """Weights >= 0 of sum 1 and least squared error, each column in units of its standard deviation.

    With errors E (n Q, M) this is min_w |E w|^2 on the simplex. For w = t v, v on the simplex, the least over t >= 0 of
    |E w|^2 + (sum w - 1)^2 is |E v|^2 / (1 + |E v|^2), which grows with |E v|^2: so nonnegative least squares, with a
    row of ones below E, finds v up to its sum. Source: Breiman, "Stacked regressions", 1996.
    """
    true = columns_of(labels)
    spread = true.std(axis=0)
    errors = ((true - views) / np.where(spread > 0, spread, 1)).reshape(len(views), -1) / np.sqrt(true.size)
    found, _ = nnls(np.vstack([errors.T, np.ones(len(views))]), np.append(np.zeros(errors.shape[1]), 1.0))
    weights: FloatArray = found / found.sum()
    return weights


def outputs(view: FloatArray, labels: NDArray[Any]) -> NDArray[Any]:
    """(N, Q) predictions."""
    return view


def disagreement(views: FloatArray) -> float:
    """The mean distance of two members, in the unit of the numbers."""
    a, b = np.triu_indices(len(views), 1)
    return float(np.abs(views[a] - views[b]).mean())


def quality(view: FloatArray, labels: NDArray[Any]) -> float:
    """R2, the mean over the columns; minus the squared error where the rows have no variance."""
    true = columns_of(labels)
    variance = true.var(axis=0)
    return float((-((true - view) ** 2).mean(axis=0) / np.where(variance > 0, variance, 1)).mean())
