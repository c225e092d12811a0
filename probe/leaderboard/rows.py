"""What each test row adds to a metric: the values that pairing and resampling work on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import InputError

FloatArray = NDArray[np.float64]
Predictions = Mapping[str, NDArray[Any]]

LOWER_IS_BETTER = frozenset({"log_loss", "ece"})
STORED = ("mAP", "micro_f1", "macro_f1")
"""Metrics of rows with several labels, whose values per row stand in the predictions."""
DEFAULTS = ("top1", "mAP")
"""The metric of a table unless asked otherwise: the first of these that a run has."""
PROPORTIONS = frozenset({"top1", "top5", "mean_per_class", *STORED})
N_BINS = 15
FLOOR = float(np.finfo(np.float64).eps)


def top1(predictions: Predictions) -> FloatArray:
    """1 where the true class is predicted."""
    return (predictions["label_rank"] < 1).astype(np.float64)


def top5(predictions: Predictions) -> FloatArray:
    """1 where the true class is among the five largest logits."""
    return (predictions["label_rank"] < 5).astype(np.float64)


def mean_per_class(predictions: Predictions) -> FloatArray:
    """Accuracy of each class, averaged over the classes that have rows, linearised row by row.

    With n_c rows in class c, of which a share a_c is right, and K classes: value = m + N / (K n_c) (correct - a_c).
    The mean is m = mean of a_c, the variance of the mean that of the stratified estimate.
    """
    labels, correct = predictions["label"], top1(predictions)
    counts = np.bincount(labels)
    accuracy = np.bincount(labels, weights=correct) / np.maximum(counts, 1)
    present = counts > 0
    weight = len(labels) / (present.sum() * np.maximum(counts, 1))
    return accuracy[present].mean() + weight[labels] * (correct - accuracy[labels])


def log_loss(predictions: Predictions) -> FloatArray:
    """-log of the probability of the true class, nats."""
    return -np.log(np.maximum(predictions["label_probability"].astype(np.float64), FLOOR))


def bins(confidence: NDArray[Any]) -> NDArray[np.int64]:
    """Calibration bin of each row: bin b holds confidences in (b / 15, (b + 1) / 15]."""
    return np.clip(np.ceil(confidence.astype(np.float64) * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)


def ece(predictions: Predictions) -> FloatArray:
    """Confidence minus correctness, with the sign of its bin's gap: the mean is the calibration error."""
    confidence = predictions["predicted_probability"].astype(np.float64)
    gap = confidence - top1(predictions)
    bin_of = bins(confidence)
    return gap * np.sign(np.bincount(bin_of, weights=gap, minlength=N_BINS))[bin_of]


ROW_VALUES: dict[str, Callable[[Predictions], FloatArray]] = {
    function.__name__: function for function in (top1, top5, mean_per_class, log_loss, ece)
} | {name: itemgetter(name) for name in STORED}


def row_values(metric: str, predictions: Predictions) -> FloatArray:
    """(N,) values whose mean is the metric, in the order of the predictions."""
    if metric not in ROW_VALUES:
        raise InputError(f"metric {metric!r} has no values per row: choose one of {', '.join(ROW_VALUES)}")
    return ROW_VALUES[metric](predictions)
