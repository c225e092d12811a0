"""Scatter of every class by itself, in one pass over rows that may be larger than memory."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from probe.core.arrays import row_chunks
from probe.core.base import IntArray
from probe.core.finite import refuse_non_finite
from probe.core.terminal import passing

Float64Array = NDArray[np.float64]
BLOCK_BYTES = 16 * 2**20


class ClassScatter:
    """Counts, sums and (D, D) second moments per class, in float64; these take 8 K D^2 bytes.

    Second moments are taken about the first row ever seen, which keeps their digits where a mean is large beside the
    spread.

    Attributes:
        counts: (K,) rows per class.
        sums: (K, D).
        squares: (K, D, D) about `shift`.
    """

    def __init__(self, n_classes: int, width: int):
        self.counts = np.zeros(n_classes)
        self.sums = np.zeros((n_classes, width))
        self.squares = np.zeros((n_classes, width, width))
        self.shift = np.zeros(width)

    def update(self, X: Any, codes: IntArray) -> Self:
        """Adds rows (N, D) with class codes (N,) in 0..K-1; refuses NaN and infinity, naming the row."""
        if len(X) and not self.counts.any():
            self.shift = np.array(X[0:1], dtype=np.float64)[0]
        for rows in passing(row_chunks(X, BLOCK_BYTES), len(X)):
            block, of = np.asarray(X[rows], dtype=np.float64), codes[rows]
            refuse_non_finite(block, rows.start)
            for k in np.unique(of):
                own = block[of == k]
                self.sums[k] += own.sum(axis=0)
                self.squares[k] += (own - self.shift).T @ (own - self.shift)
            self.counts += np.bincount(of, minlength=len(self.counts))
        return self

    @property
    def means(self) -> Float64Array:
        """(K, D); zeros for a class without rows."""
        return self.sums / np.maximum(self.counts, 1)[:, None]

    def scatter(self, k: int) -> Float64Array:
        """(D, D) sum over the rows of a class of the second moments about its mean."""
        off = self.means[k] - self.shift
        return self.squares[k] - self.counts[k] * np.outer(off, off)
