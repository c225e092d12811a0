"""Bins of confidences, for calibration errors and reliability diagrams."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray

N_BINS = 15


def equal_width_bins(confidence: NDArray[Any], n_bins: int = N_BINS) -> IntArray:
    """Bin of each row: bin b holds confidences in (b / n_bins, (b + 1) / n_bins]."""
    return np.clip(np.ceil(confidence.astype(np.float64) * n_bins).astype(np.int64) - 1, 0, n_bins - 1)


def equal_mass_bins(confidence: NDArray[Any], n_bins: int = N_BINS) -> IntArray:
    """Bin of each row: bins of equal size along the confidence; rows of one confidence share that of their middle.

    Confidences that are equal in float32 are equal: the order of the rows then moves nothing, and neither does
    rounding.
    """
    _, group, sizes = np.unique(confidence.astype(np.float32), return_inverse=True, return_counts=True)
    twice_the_middle = 2 * np.cumsum(sizes) - sizes - 1
    return (twice_the_middle[group] * n_bins // (2 * len(confidence))).astype(np.int64)
