"""Metrics of rows with several labels, with intervals from the infinitesimal jackknife."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.targets.labels import UNKNOWN
from probe.metrics.shared.frequency import by_frequency
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.metric import Metric, Statistic
from probe.metrics.shared.orders import mean_precision_with_derivative
from probe.metrics.shared.scores import Frequencies

RECIPE = "2"  # intervals that hold near the ceiling and over few seeds; "1" were those of before


def mean_average_precision(
    logits: NDArray[Any], targets: IntArray, among: NDArray[np.bool_] | None = None
) -> Statistic:
    """Mean over labels of the average precision of their scores, and its derivative; labels of no row are left out.

    Average precision is the sum over thresholds of precision times gain in recall, as scikit-learn's
    `average_precision_score` has it; equal scores share a threshold. Each label is measured on the rows of which it is
    known.

    Args:
        logits: (N, K).
        targets: (N, K) zeros and ones, `UNKNOWN` where it is not known.
        among: (K,) mask of the labels to mean over; all by default.
    """
    hits, known = targets == 1, targets != UNKNOWN
    present = np.flatnonzero(hits.any(axis=0) & (True if among is None else among))
    slopes, values = np.zeros(len(targets)), []
    for k in present:
        rows = known[:, k]
        value, own = mean_precision_with_derivative(logits[rows, k].astype(np.float64), hits[rows, k], hits[rows, k])
        values.append(value)
        slopes[rows] += own / len(present)
    return float(np.mean(values)), slopes


def micro_f1(labels: IntArray, predicted: NDArray[np.bool_]) -> Statistic:
    """F1 = 2 TP / (2 TP + FP + FN) of all labels together; dF/dw_m = (2 TP_m - F (2 TP_m + FP_m + FN_m)) / (...).

    A label is predicted where its log-odds are above 0; unknown labels take no part.
    """
    hit, either = _twice_hits(labels, predicted)
    hit, either = hit.sum(axis=1), either.sum(axis=1)
    value = hit.sum() / either.sum()
    return float(value), (hit - value * either) / either.sum()


def macro_f1(labels: IntArray, predicted: NDArray[np.bool_]) -> Statistic:
    """Mean of the F1 of each label that some row has."""
    present = (labels == 1).any(axis=0)
    hit, either = (counts[:, present] for counts in _twice_hits(labels, predicted))
    values = hit.sum(axis=0) / either.sum(axis=0)
    return float(values.mean()), ((hit - values * either) / either.sum(axis=0)).mean(axis=1)


def _twice_hits(labels: IntArray, predicted: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """2 TP and 2 TP + FP + FN of each row and label, (N, K) each."""
    has, said = labels == 1, predicted & (labels != UNKNOWN)
    return 2.0 * (said & has), said.astype(np.float64) + has


def labels_by_frequency(scores: Frequencies) -> dict[str, NDArray[np.bool_]]:
    """Masks (K,) of the tested labels that many, some and few training rows have, by the name of their metric."""
    groups = by_frequency(scores.train_counts, (scores.rows.labels == 1).any(axis=0))
    return {f"mAP_{name}": group for name, group in groups.items()}


def _of_group(name: str) -> Metric:
    """mAP of the labels of one group."""
    return Metric(
        name=name,
        reads="frequency",
        suits=lambda scores: name in labels_by_frequency(scores),
        of_all=lambda scores: mean_average_precision(
            scores.rows.logits, scores.rows.labels, labels_by_frequency(scores)[name]
        ),
        **SHARED,
    )


SHARED: dict[str, Any] = {"targets": ("labels",), "interval": "jackknife", "proportion": True, "unit": "%"}
METRICS = (
    Metric(name="mAP", of_all=lambda scores: mean_average_precision(scores.logits, scores.labels), shown=True,
           **SHARED),
    Metric(name="micro_f1", of_all=lambda scores: micro_f1(scores.labels, scores.predicted), **SHARED),
    Metric(name="macro_f1", of_all=lambda scores: macro_f1(scores.labels, scores.predicted), **SHARED),
    Metric(name="micro_f1_tuned", reads="thresholds", of_all=lambda scores: micro_f1(scores.labels, scores.hits),
           **SHARED),
    Metric(name="macro_f1_tuned", reads="thresholds", of_all=lambda scores: macro_f1(scores.labels, scores.hits),
           **SHARED),
    *map(_of_group, ("mAP_many", "mAP_medium", "mAP_few")),
)  # fmt: skip
