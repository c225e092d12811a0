"""Covariances of fewer rows than features, by products of rows: N^2 numbers in the place of D^2."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from probe.core.arrays import row_chunks
from probe.core.base import IntArray

Float64Array = NDArray[np.float64]
WIDE = 4096
"""Features from which on (D, D) matrices cost more than running sums are worth."""


def spans_little(n_rows: float, width: int) -> bool:
    """Whether rows span so little of so many features that their products are the smaller problem."""
    return width >= WIDE and 2 * n_rows <= width


class RowSpan:
    """Rows of classes about their class means, (N, D) in float64; `rows.T @ rows / N` is the covariance within.

    Attributes:
        rows: Changed in place by `divide`.
        squares: (D,) mean squares of the rows as they were.
    """

    def __init__(self, parts: list[tuple[Any, IntArray]], means: Float64Array):
        self.rows = np.empty((sum(len(codes) for _, codes in parts), means.shape[1]))
        start = 0
        for X, codes in parts:
            for chunk in row_chunks(X):
                own = self.rows[start : start + len(codes[chunk])]
                np.subtract(X[chunk], means[codes[chunk]], out=own)
                start += len(own)
        self.squares = np.einsum("nd,nd->d", self.rows, self.rows) / len(self.rows)
        self._products: Float64Array | None = None

    def products(self) -> Float64Array:
        """(N, N) inner products of the rows."""
        if self._products is None:
            self._products = self.rows @ self.rows.T
        return self._products

    def divide(self, scale: Float64Array) -> None:
        """Brings each feature to another unit."""
        self.rows /= scale
        self._products = None

    def solve(self, share: float, diagonal: Float64Array, columns: Float64Array) -> Float64Array:
        """(K, D) solutions x of (share / N rows' rows + diag(diagonal)) x = column for (K, D) columns; ends the rows.

        By Woodbury's identity, with a factorisation of (N, N). Where the diagonal is 0, so is the solution.
        """
        used, weight = diagonal > 0, share / len(self.rows)
        root = np.where(used, 1 / np.sqrt(np.where(used, diagonal, 1)), 0)
        # Where all features have the same diagonal, products that are there already serve again.
        even = (used | (self.squares == 0)).all() and used.any() and np.ptp(root[used]) <= 1e-14 * root.max()
        inner = self._products * (weight * root.max() ** 2) if even and self._products is not None else None
        self.rows *= np.sqrt(weight) * root
        inner = self.rows @ self.rows.T if inner is None else inner
        inner[np.diag_indices(len(inner))] += 1
        columns = columns * root
        weights = cho_solve(cho_factor(inner, overwrite_a=True), self.rows @ columns.T, overwrite_b=True)
        return (columns - weights.T @ self.rows) * root
