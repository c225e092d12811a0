"""Several labels per row: each label of each row is a question with two answers, and these are combined as classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.targets.labels import UNKNOWN
from probe.experiment.ensembles import one_class
from probe.experiment.ensembles.combining import KINDS, disagreement
from probe.experiment.ensembles.views import Arrays
from probe.metrics.shared.intervals import FloatArray

__all__ = ["KINDS", "NEEDED", "disagreement", "outputs", "quality", "temperature", "view", "weigh"]

NEEDED = "logits"
LARGEST = float(np.finfo(np.float32).max)


def view(arrays: Arrays, temperature: float) -> FloatArray:
    """(N K, 2) log-probabilities that a label is not there and that it is."""
    return one_class.view(_questions(arrays), temperature)


def temperature(arrays: Arrays) -> float:
    """One for all labels, from those that are known."""
    questions = _questions(arrays)
    known = questions["label"] != UNKNOWN
    return one_class.temperature({name: values[known] for name, values in questions.items()})


def weigh(views: FloatArray, labels: NDArray[Any]) -> FloatArray:
    """Those of least log loss, the mean over rows and labels."""
    known = labels.ravel() != UNKNOWN
    return one_class.weigh(views[:, known], labels.ravel()[known])


def outputs(view: FloatArray, labels: NDArray[Any]) -> NDArray[Any]:
    """(N, K) log-odds, finite: those of labels that no member holds possible end where float32 does."""
    odds = np.subtract(view[:, 1], view[:, 0]).clip(-LARGEST, LARGEST)
    return odds.reshape(labels.shape).astype(np.float32)


def quality(view: FloatArray, labels: NDArray[Any]) -> float:
    """The share of known labels that are right."""
    known = labels.ravel() != UNKNOWN
    return one_class.quality(view[known], labels.ravel()[known])


def _questions(arrays: Arrays) -> Arrays:
    odds = arrays["logits"].reshape(-1, 1)
    return {"logits": np.hstack([np.zeros_like(odds), odds]), "label": arrays["label"].ravel().astype(np.int64)}
