"""Bins of confidences, for calibration errors and reliability diagrams."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.orders import ties

N_BINS = 15


def equal_width_bins(confidence: NDArray[Any], n_bins: int = N_BINS) -> IntArray:
    """Bin of each row: bin b holds confidences in (b / n_bins, (b + 1) / n_bins]."""
    return np.clip(np.ceil(confidence.astype(np.float64) * n_bins).astype(np.int64) - 1, 0, n_bins - 1)


def equal_mass_bins(confidence: NDArray[Any], n_bins: int = N_BINS) -> IntArray:
    """Bin of each row: bins of equal size along the confidence; rows of one confidence share that of their middle.

    Confidences that are equal in float32 are equal: the order of the rows then moves nothing, and neither does
    rounding. Of several runs, (..., N), each has bins of its own.
    """
    confidence = confidence.astype(np.float32)
    order = np.argsort(confidence, axis=-1)
    first, last = ties(np.take_along_axis(confidence, order, axis=-1))
    bins = np.empty(order.shape, dtype=np.int64)
    np.put_along_axis(bins, order, (first + last) * n_bins // (2 * order.shape[-1]), axis=-1)
    return bins


def sums_by_bin(values: NDArray[Any], bins: IntArray, n_bins: int) -> NDArray[np.float64]:
    """(..., n_bins) sums of values (..., N) in each bin, of each run for itself; `bins` is (..., N) or (N,)."""
    runs = values.reshape(math.prod(values.shape[:-1]), values.shape[-1])  # -1 could not be told where N is 0
    places = np.arange(len(runs))[:, None] * n_bins + bins.reshape(math.prod(bins.shape[:-1]), bins.shape[-1])
    sums: NDArray[Any] = np.bincount(places.ravel(), weights=runs.ravel(), minlength=len(runs) * n_bins)
    return sums.reshape(*values.shape[:-1], n_bins)
