"""One class per row: members are combined as log-probabilities (N, K)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.experiment.ensembles.combining import KINDS, disagreement, fit_weights, log_probabilities
from probe.experiment.ensembles.views import Arrays
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.temperature import fit_temperature

__all__ = ["KINDS", "NEEDED", "disagreement", "outputs", "quality", "temperature", "view", "weigh"]

NEEDED = "logits"


def view(arrays: Arrays, temperature: float) -> FloatArray:
    """(N, K) log-probabilities."""
    return log_probabilities(arrays["logits"], temperature)


def temperature(arrays: Arrays) -> float:
    """Temperature scaling (Guo, Pleiss, Sun and Weinberger, 2017)."""
    return fit_temperature(arrays["logits"], arrays["label"])


def weigh(views: FloatArray, labels: NDArray[Any]) -> FloatArray:
    """Those of least log loss."""
    return fit_weights(views[:, np.arange(len(labels)), labels])


def outputs(view: FloatArray, labels: NDArray[Any]) -> NDArray[Any]:
    """(N, K) as float32, as a run keeps its logits."""
    return view.astype(np.float32)


def quality(view: FloatArray, labels: NDArray[Any]) -> float:
    """The share of rows whose class is the likeliest."""
    return float((view.argmax(axis=-1) == labels).mean())
