"""Sums from which least squares are solved for any penalty: G = H'H and Q = H'Y, with one-hot targets Y."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import blas, lapack

from probe.core.base import IntArray
from probe.heads.linalg.banded import solve_shifted

Float64Array = NDArray[np.float64]
REDUCED_FROM = 6
"""Penalties from which on one reduction to a band takes less time than a factorisation each."""


class NormalEquations:
    """G (M, M), of which the lower half alone is kept up, and Q (M, K), in float64.

    Attributes:
        counts: (K,) rows per class.
    """

    def __init__(self, width: int, n_classes: int):
        self.gram = np.zeros((width, width), order="F")
        self.cross = np.zeros((width, n_classes), order="F")
        self.counts = np.zeros(n_classes)

    def empty(self) -> NormalEquations:
        """Others of the same shape, without rows."""
        return NormalEquations(*self.cross.shape)

    def update(self, H: Float64Array, codes: IntArray) -> Self:
        """Adds rows (n, M) with class codes (n,)."""
        # H' as BLAS reads it is H in rows: a product with itself costs half of that of two matrices.
        self.gram = blas.dsyrk(1.0, H.T, beta=1.0, c=self.gram, lower=1, overwrite_c=1)
        n, K = len(H), len(self.counts)
        self.cross += (sparse.csr_array((np.ones(n), (codes, np.arange(n))), shape=(K, n)) @ H).T
        self.counts += np.bincount(codes, minlength=K)
        return self

    def add(self, other: NormalEquations) -> Self:
        """Takes in the rows of others."""
        self.gram += other.gram
        self.cross += other.cross
        self.counts += other.counts
        return self

    def solutions(self, alphas: Float64Array) -> list[Float64Array | None]:
        """(G + alpha I)^-1 Q, (M, K), for each penalty; None where that is not positive definite in float64."""
        if len(alphas) >= REDUCED_FROM:
            return solve_shifted(self.gram, self.cross, alphas.tolist())
        return [self._factorised(alpha) for alpha in alphas.tolist()]

    def least_norm(self, alpha: float) -> Float64Array:
        """The same by eigenvectors alone, without those that are rounding: where nothing can be factorised."""
        values, vectors = np.linalg.eigh(self.gram)
        kept = values > 10 * np.finfo(np.float64).eps * len(values) * max(values[-1], 0)
        found: Float64Array = vectors[:, kept] @ ((vectors[:, kept].T @ self.cross) / (values[kept] + alpha)[:, None])
        return found

    def _factorised(self, alpha: float) -> Float64Array | None:
        matrix = self.gram.copy(order="F")
        matrix[np.diag_indices(len(matrix))] += alpha
        factor, failed = lapack.dpotrf(matrix, lower=1, overwrite_a=1, clean=0)
        if failed:
            return None
        solved: Float64Array = lapack.dpotrs(factor, self.cross, lower=1)[0]
        return solved if np.isfinite(solved).all() else None
