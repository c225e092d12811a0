"""What each test row adds to a metric: the values that pairing and resampling work on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.metrics.rows import class_mean_rows, gap_rows

FloatArray = NDArray[np.float64]
Predictions = Mapping[str, NDArray[Any]]

STORED = ("mAP", "micro_f1", "macro_f1")
"""Metrics of rows with several labels, whose values per row stand in the predictions."""
DEFAULTS = ("top1", "mAP")
"""The metric of a table unless asked otherwise: the first of these that a run has."""
KEPT = frozenset(
    f"{prefix}{name}"
    for prefix, names in (
        ("", ("many_shot", "medium_shot", "few_shot", "a_last", "a_avg", "forgetting")),
        ("", ("coverage", "mean_set_size", "empty_sets")),
        ("class_conditional_", ("coverage", "mean_set_size", "empty_sets")),
        ("scaled_", ("log_loss", "brier", "ece")),
    )
    for name in names
)
"""Metrics whose values per row a run keeps itself, as `metric.<name>` beside its predictions."""
LOWER_IS_BETTER = frozenset(
    {"log_loss", "ece", "forgetting", "mean_set_size", "empty_sets", "class_conditional_mean_set_size"}
    | {"class_conditional_empty_sets", "scaled_log_loss", "scaled_brier", "scaled_ece"}
)
PROPORTIONS = frozenset(
    {"top1", "top5", "mean_per_class", "many_shot", "medium_shot", "few_shot", "a_last", "a_avg", *STORED}
    | {"coverage", "empty_sets", "class_conditional_coverage", "class_conditional_empty_sets"}
)
SIGNED = frozenset({"forgetting"})
PERCENT = PROPORTIONS | {"ece", "scaled_ece", "forgetting"}
N_BINS = 15
FLOOR = float(np.finfo(np.float64).eps)


def top1(predictions: Predictions) -> FloatArray:
    """1 where the true class is predicted."""
    return (predictions["label_rank"] < 1).astype(np.float64)


def top5(predictions: Predictions) -> FloatArray:
    """1 where the true class is among the five largest logits."""
    return (predictions["label_rank"] < 5).astype(np.float64)


def mean_per_class(predictions: Predictions) -> FloatArray:
    """Accuracy of each class, averaged over the classes that have rows, linearised row by row."""
    return class_mean_rows(predictions["label_rank"] < 1, predictions["label"])


def log_loss(predictions: Predictions) -> FloatArray:
    """-log of the probability of the true class, nats."""
    return -np.log(np.maximum(predictions["label_probability"].astype(np.float64), FLOOR))


def bins(confidence: NDArray[Any]) -> NDArray[np.int64]:
    """Calibration bin of each row: bin b holds confidences in (b / 15, (b + 1) / 15]."""
    return np.clip(np.ceil(confidence.astype(np.float64) * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)


def ece(predictions: Predictions) -> FloatArray:
    """Confidence minus correctness, with the sign of its bin's gap: the mean is the calibration error."""
    confidence = predictions["predicted_probability"].astype(np.float64)
    return gap_rows(confidence, predictions["label_rank"] < 1, bins(confidence))


ROW_VALUES: dict[str, Callable[[Predictions], FloatArray]] = {
    function.__name__: function for function in (top1, top5, mean_per_class, log_loss, ece)
} | {name: itemgetter(name) for name in STORED}


def can_rank(metric: str) -> bool:
    """Whether runs that have the metric have its values per row."""
    return metric in ROW_VALUES or metric in KEPT


def row_values(metric: str, predictions: Predictions) -> FloatArray:
    """(N,) values whose mean is the metric, in the order of the predictions; NaN where it does not look at the row.

    Raises:
        InputError: These predictions do not give the metric.
    """
    if metric in ROW_VALUES:
        return ROW_VALUES[metric](predictions)
    if f"metric.{metric}" not in predictions:
        raise InputError(f"metric {metric!r} has no values per row: choose one of {', '.join(ROW_VALUES)}")
    return predictions[f"metric.{metric}"].astype(np.float64)
