"""Symmetric systems at many shifts: one reduction to a band, then a factorisation of the band for each shift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, qr, solve_triangular

Float64Array = NDArray[np.float64]
BANDWIDTH = 96
ROWS = 2 * BANDWIDTH
"""Of the matrix at once: a multiple of the bandwidth, few enough for what a product adds to stay in a cache."""
COLUMNS = 512
"""Of solutions that are turned back together."""

Reflector = tuple[int, Float64Array, Float64Array]
"""From which row on, V and T: I - V T V' below it, the identity above."""


def solve_shifted(matrix: Float64Array, right: Float64Array, shifts: Sequence[float]) -> list[Float64Array | None]:
    """(A + shift I)^-1 R, (M, K), for each shift; None where A + shift I is not positive definite in float64.

    A = U B U' with orthogonal U and a band B, so that (A + shift I)^-1 R = U (B + shift I)^-1 U'R: the reduction takes
    4/3 M^3 multiplications and additions, as much as four Cholesky factorisations, and every shift after it 2 M^2 K to
    turn back, all in products of matrices. A reduction to three diagonals takes as many, but half of them wait for
    memory; eigenvectors take several times as many.

    Source: Bischof, Lang, Sun, "A Framework for Symmetric Band Reduction", 2000.

    Args:
        matrix: (M, M) A, in Fortran order, of which the lower half is read.
        right: (M, K) R.
        shifts: In any order.
    """
    band, reflectors = _reduced(np.array(matrix.T, order="C"))
    turned = np.array(right, order="C")
    for start, V, T in reflectors:
        turned[start:] -= V @ (T.T @ (V.T @ turned[start:]))
    found, n_together = list[Float64Array | None](), max(1, COLUMNS // right.shape[1])
    for first in range(0, len(shifts), n_together):
        some = [_of_band(band, shift, turned) for shift in shifts[first : first + n_together]]
        kept = [one for one in some if one is not None]
        every = np.concatenate([np.empty((len(band[0]), 0)), *kept], axis=1)
        room = np.empty(every.shape)
        for start, V, T in reversed(reflectors):
            every[start:] -= np.matmul(V, T @ (V.T @ every[start:]), out=room[start:])
        parts = iter(np.split(every, max(1, len(kept)), axis=1))
        found += [None if one is None else next(parts) for one in some]
    return [one if one is not None and np.isfinite(one).all() else None for one in found]


def _of_band(band: Float64Array, shift: float, right: Float64Array) -> Float64Array | None:
    moved = band.copy()
    moved[0] += shift
    factor, failed = lapack.dpbtrf(moved, lower=1, overwrite_ab=1)
    found: Float64Array | None = None if failed else lapack.dpbtrs(factor, right, lower=1)[0]
    return found


def _reduced(A: Float64Array) -> tuple[Float64Array, list[Reflector]]:
    """The diagonals of B from the main one on, as LAPACK wants a lower band, and U as a product of reflectors.

    A is overwritten: in C order, its upper half read. Blocks on its diagonal are kept whole.
    """
    width, reflectors = len(A), list[Reflector]()
    room = np.empty(ROWS * width)
    for rows in _blocks(0, width):
        upper = np.triu(A[rows, rows])
        A[rows, rows] = upper + np.triu(upper, 1).T
    for start in range(0, width - BANDWIDTH - 1, BANDWIDTH):
        below = start + BANDWIDTH
        (packed, taus), R = qr(A[start:below, below:].T, mode="raw", check_finite=False)
        A[start:below, below : below + len(taus)] = R[: len(taus)].T
        V, T = _compact(packed[:, : len(taus)], taus)
        reflectors.append((below, V, T))
        # A - V W' - W V' is both sides of (I - V T V')' A (I - V T V').
        W = _product(A, below, V) @ T
        W -= V @ (T.T @ (V.T @ W) / 2)
        left, right = np.hstack([V, W]), np.hstack([W, V])
        for rows in _blocks(below, width):
            block = A[rows, rows.start :]
            into = room[: block.size].reshape(block.shape)
            block -= np.matmul(left[rows.start - below : rows.stop - below], right[rows.start - below :].T, out=into)
    n_below = min(BANDWIDTH, width - 1)
    band = np.zeros((n_below + 1, width))
    for off in range(n_below + 1):
        band[off, : width - off] = A.diagonal(off)
    return band, reflectors


def _blocks(start: int, width: int) -> Iterator[slice]:
    """Rows from one on, up to the next multiples of `ROWS`."""
    while start < width:
        stop = min(width, (start // ROWS + 1) * ROWS)
        yield slice(start, stop)
        start = stop


def _product(A: Float64Array, below: int, V: Float64Array) -> Float64Array:
    """A V for the rows and columns of A from one on, of which the upper half alone is there."""
    found = np.zeros(V.shape)
    for rows in _blocks(below, len(A)):
        here, after = slice(rows.start - below, rows.stop - below), slice(rows.stop - below, None)
        found[here] += A[rows, rows.start :] @ V[rows.start - below :]
        found[after] += A[rows, rows.stop :].T @ V[here]
    return found


def _compact(packed: Float64Array, taus: Float64Array) -> tuple[Float64Array, Float64Array]:
    """V (m, k) and T (k, k), upper triangular, with I - V T V' the product of k Householder reflections.

    T^-1 + T^-T = V'V, since the product is orthogonal.
    """
    V = np.tril(packed, -1)
    np.fill_diagonal(V, 1.0)
    V[:, taus == 0] = 0.0  # no reflection
    V = np.ascontiguousarray(V)
    inverse = np.triu(V.T @ V, 1)
    np.fill_diagonal(inverse, 1 / np.where(taus == 0, 1.0, taus))
    T: Float64Array = solve_triangular(inverse, np.eye(len(taus)))
    return V, T
