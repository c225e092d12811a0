"""The mean and the standard deviation of features, by which heads see them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.arrays import row_chunks


def statistics(X: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of features (N, D); 1 in place of the deviation of what never varies."""
    shift = np.asarray(X[:1], dtype=np.float64)[0]
    total, squares = np.zeros_like(shift), np.zeros_like(shift)
    for rows in row_chunks(X):
        chunk = np.asarray(X[rows], dtype=np.float64) - shift
        total += chunk.sum(axis=0)
        squares += (chunk**2).sum(axis=0)
    offset = total / len(X)
    deviation = np.sqrt(np.maximum(squares / len(X) - offset**2, 0))
    varies = deviation > 1e-6 * np.abs(shift + offset)
    return (shift + offset).astype(np.float32), np.where(varies, deviation, 1).astype(np.float32)
