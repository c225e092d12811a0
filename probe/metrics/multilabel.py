"""Metrics of rows with several labels, with intervals from the infinitesimal jackknife."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.metric import Metric, Statistic
from probe.metrics.shared.orders import mean_precision_with_derivative
from probe.metrics.shared.scores.labels import LabelScores

RECIPE = "2"  # intervals that hold near the ceiling and over few seeds; "1" were those of before


def mean_average_precision(logits: NDArray[Any], targets: IntArray) -> Statistic:
    """Mean over labels of the average precision of their scores, and its derivative; labels of no row are left out.

    Average precision is the sum over thresholds of precision times gain in recall, as scikit-learn's
    `average_precision_score` has it; equal scores share a threshold.
    """
    hits = targets.astype(bool)
    present = np.flatnonzero(hits.any(axis=0))
    parts = [mean_precision_with_derivative(logits[:, k].astype(np.float64), hits[:, k], hits[:, k]) for k in present]
    return float(np.mean([value for value, _ in parts])), np.mean([slopes for _, slopes in parts], axis=0)


def micro_f1(scores: LabelScores) -> Statistic:
    """F1 = 2 TP / (2 TP + FP + FN) of all labels together; dF/dw_m = (2 TP_m - F (2 TP_m + FP_m + FN_m)) / (...).

    A label is predicted where its log-odds are above 0.
    """
    hit, either = _twice_hits(scores)
    hit, either = hit.sum(axis=1), either.sum(axis=1)
    value = hit.sum() / either.sum()
    return float(value), (hit - value * either) / either.sum()


def macro_f1(scores: LabelScores) -> Statistic:
    """Mean of the F1 of each label that some row has."""
    present = scores.labels.any(axis=0)
    hit, either = (counts[:, present] for counts in _twice_hits(scores))
    values = hit.sum(axis=0) / either.sum(axis=0)
    return float(values.mean()), ((hit - values * either) / either.sum(axis=0)).mean(axis=1)


def _twice_hits(scores: LabelScores) -> tuple[FloatArray, FloatArray]:
    """2 TP and 2 TP + FP + FN of each row and label, (N, K) each."""
    return 2.0 * (scores.predicted & (scores.labels == 1)), scores.predicted.astype(np.float64) + scores.labels


SHARED: dict[str, Any] = {"targets": ("labels",), "interval": "jackknife", "proportion": True, "unit": "%"}
METRICS = (
    Metric(name="mAP", of_all=lambda scores: mean_average_precision(scores.logits, scores.labels), shown=True,
           **SHARED),
    Metric(name="micro_f1", of_all=micro_f1, **SHARED),
    Metric(name="macro_f1", of_all=macro_f1, **SHARED),
)  # fmt: skip
