"""Sums from which least squares are solved for any penalty: G = H'H and Q = H'Y, with one-hot targets Y."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from probe.core.base import IntArray

Float64Array = NDArray[np.float64]
DECOMPOSED_FROM = 40
"""Penalties from which on one eigendecomposition takes less time than a factorisation each."""


class NormalEquations:
    """G (M, M), of which the lower half alone is kept up, and Q (M, K), in float64.

    Attributes:
        counts: (K,) rows per class.
    """

    def __init__(self, width: int, n_classes: int):
        self.gram = np.zeros((width, width), order="F")
        self.cross = np.zeros((width, n_classes))
        self.counts = np.zeros(n_classes)

    def empty(self) -> NormalEquations:
        """Others of the same shape, without rows."""
        return NormalEquations(*self.cross.shape)

    def update(self, H: Float64Array, codes: IntArray) -> Self:
        """Adds rows (n, M) with class codes (n,)."""
        # H' as BLAS reads it is H in rows: a product with itself costs half of that of two matrices.
        self.gram = blas.dsyrk(1.0, H.T, beta=1.0, c=self.gram, lower=1, overwrite_c=1)
        for k in np.unique(codes):
            self.cross[:, k] += H[codes == k].sum(axis=0)
        self.counts += np.bincount(codes, minlength=len(self.counts))
        return self

    def add(self, other: NormalEquations) -> Self:
        """Takes in the rows of others."""
        self.gram += other.gram
        self.cross += other.cross
        self.counts += other.counts
        return self

    def solutions(self, alphas: Float64Array) -> list[Float64Array | None]:
        """(G + alpha I)^-1 Q, (M, K), for each penalty; None where that is not positive definite in float64.

        Many penalties share an eigendecomposition. Of few each has a factorisation, but for those that are small beside
        the eigenvalues: these follow from the one before by a series.
        """
        if len(alphas) >= DECOMPOSED_FROM:
            values, vectors = np.linalg.eigh(self.gram)  # of the lower half
            rotated = vectors.T @ self.cross
            below = [values[0] + alpha <= 0 for alpha in alphas]
            return [
                None if wrong else vectors @ (rotated / (values + alpha)[:, None])
                for alpha, wrong in zip(alphas, below, strict=True)
            ]
        found, factor, terms, near = dict[float, Float64Array | None](), None, list[Float64Array](), 0.0
        for alpha in sorted(set(alphas.tolist())):
            solved = None if factor is None else _moved(factor, terms, alpha - near)
            if solved is None:
                factor = None  # and its memory, before that of the next one is taken
                factor, solved = self._factorised(alpha)
                terms, near = [] if solved is None else [solved], alpha
            found[alpha] = solved
        return [found[alpha] for alpha in alphas.tolist()]

    def least_norm(self, alpha: float) -> Float64Array:
        """The same by eigenvectors alone, without those that are rounding: where nothing can be factorised."""
        values, vectors = np.linalg.eigh(self.gram)
        kept = values > 10 * np.finfo(np.float64).eps * len(values) * max(values[-1], 0)
        found: Float64Array = vectors[:, kept] @ ((vectors[:, kept].T @ self.cross) / (values[kept] + alpha)[:, None])
        return found

    def _factorised(self, alpha: float) -> tuple[Float64Array | None, Float64Array | None]:
        """The Cholesky factor of G + alpha I, and the solution; neither where it has none."""
        matrix = self.gram.copy(order="F")
        matrix[np.diag_indices(len(matrix))] += alpha
        factor, failed = lapack.dpotrf(matrix, lower=1, overwrite_a=1, clean=0)
        if failed:
            return None, None
        solved: Float64Array = lapack.dpotrs(factor, self.cross, lower=1)[0]
        return (factor, solved) if np.isfinite(solved).all() else (None, None)


def _moved(factor: Float64Array, terms: list[Float64Array], step: float) -> Float64Array | None:
    """The solution at a penalty larger by a step, sum_j (-step)^j A^-j W with A the factorised matrix, to rounding.

    None where the terms fall slowly: then a factorisation of its own takes no longer than they do.

    Args:
        factor: Of A.
        terms: A^-j W from j = 0, the solution at the penalty of A, on; what is missing is added.
        step: Between the penalties.
    """
    width, n_columns = terms[0].shape
    total, last = terms[0].copy(), float(np.linalg.norm(terms[0]))
    for j in range(1, max(5, width // (12 * n_columns) + 1)):
        if j == len(terms):
            terms.append(lapack.dpotrs(factor, terms[-1], lower=1)[0])
        following = (-step) ** j * terms[j]
        length = float(np.linalg.norm(following))
        if not length <= last / 2:
            return None
        total += following
        if length <= np.finfo(np.float64).eps * np.linalg.norm(total):
            return total
        last = length
    return None
