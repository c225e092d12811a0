"""Metrics of rows with several labels, with intervals from the infinitesimal jackknife (see `ranking`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.metrics.intervals import FloatArray, Interval
from probe.metrics.ranking import interval, mean_precision_with_derivative

Statistic = tuple[float, FloatArray]
"""A value and its derivative by the weight of each row, (N,)."""


def evaluate_targets(logits: NDArray[Any], targets: IntArray) -> dict[str, Interval]:
    """Scores log-odds: `mAP`, `micro_f1` and `macro_f1`, the latter two of labels whose log-odds are above 0.

    Labels that no test row has are left out of `mAP` and `macro_f1`.

    Args:
        logits: (N, K) log-odds of each label.
        targets: (N, K) zeros and ones.
    """
    return {name: interval(*statistic) for name, statistic in _statistics(logits, targets).items()}


def row_values(logits: NDArray[Any], targets: IntArray) -> dict[str, FloatArray]:
    """What each row adds to each metric, (N,): values whose mean is the metric and whose spread gives its variance."""
    return {name: value + len(slopes) * slopes for name, (value, slopes) in _statistics(logits, targets).items()}


def _statistics(logits: NDArray[Any], targets: IntArray) -> dict[str, Statistic]:
    if logits.shape != targets.shape or not np.isfinite(logits).all():
        raise InputError(
            f"log-odds have shape {logits.shape} and targets {targets.shape}, expected the same and finite numbers: "
            "the head diverged, or its features are not finite"
        )
    if not targets.any():
        raise InputError(f"none of the {len(targets)} test rows has any label, expected some: test on more rows")
    return {
        "mAP": mean_average_precision(logits, targets),
        "micro_f1": _micro_f1(logits, targets),
        "macro_f1": _macro_f1(logits, targets),
    }


def mean_average_precision(logits: NDArray[Any], targets: IntArray) -> Statistic:
    """Mean over labels of the average precision of their scores, and its derivative.

    Average precision is the sum over thresholds of precision times gain in recall, as scikit-learn's
    `average_precision_score` has it; equal scores share a threshold.
    """
    hits = targets.astype(bool)
    present = np.flatnonzero(hits.any(axis=0))
    parts = [mean_precision_with_derivative(logits[:, k].astype(np.float64), hits[:, k], hits[:, k]) for k in present]
    return float(np.mean([value for value, _ in parts])), np.mean([slopes for _, slopes in parts], axis=0)


def _micro_f1(logits: NDArray[Any], targets: IntArray) -> Statistic:
    """F1 = 2 TP / (2 TP + FP + FN) of all labels together; dF/dw_m = (2 TP_m - F (2 TP_m + FP_m + FN_m)) / (...)."""
    hit, either = _twice_hits(logits, targets)
    hit, either = hit.sum(axis=1), either.sum(axis=1)
    value = hit.sum() / either.sum()
    return float(value), (hit - value * either) / either.sum()


def _macro_f1(logits: NDArray[Any], targets: IntArray) -> Statistic:
    present = targets.any(axis=0)
    hit, either = (counts[:, present] for counts in _twice_hits(logits, targets))
    values = hit.sum(axis=0) / either.sum(axis=0)
    return float(values.mean()), ((hit - values * either) / either.sum(axis=0)).mean(axis=1)


def _twice_hits(logits: NDArray[Any], targets: IntArray) -> tuple[FloatArray, FloatArray]:
    """2 TP and 2 TP + FP + FN of each row and label, (N, K) each."""
    predicted = logits > 0
    return 2.0 * (predicted & (targets == 1)), predicted.astype(np.float64) + targets
