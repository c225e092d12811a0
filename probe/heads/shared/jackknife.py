"""Intervals from fits without each row, which linear smoothers give in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from probe.core.arrays import read_rows, row_chunks
from probe.heads.shared.number_moments import LEAST_FREEDOM, LEAVE_ONE_OUT_ROWS, LeastSquares
from probe.heads.shared.numbers import Numbers, Part
from probe.metrics.shared.thresholds import rank_of

BLOCK_VALUES = 2**22
"""Predictions of fits without a row, held at once."""


@runtime_checkable
class LeavesOneOut(Protocol):
    """A head of numbers whose fits without each training row follow from the one fit."""

    def jackknife_plus(self, X: Any, training: Sequence[Part], level: float) -> tuple[Numbers, Numbers]:
        """Ends (N, Q) of intervals; `training` are the rows and numbers that the head was fitted on, in parts."""
        ...


def jackknife_plus(
    solver: LeastSquares, alphas: Numbers, training: Sequence[Part], X: Any, level: float
) -> tuple[Numbers, Numbers]:
    """Ends (N, Q) of jackknife+ intervals of ridge regression at a penalty for each column.

    With r_i = (y_i - f(x_i)) / (1 - h_i) the error of row i by the fit without it, f_-i(x) = f(x) - r_i (1/n + z' (L +
    alpha)^-1 z_i), z = V'(x - m), is what that fit says of x. The interval goes from the floor((n + 1) (1 - level))-th
    smallest f_-i(x) - |r_i| to the ceil((n + 1) level)-th smallest f_-i(x) + |r_i|. Whatever the distribution, it holds
    the number with a chance of 2 level - 1 or more, and of about `level` where the fit is stable, as long as the
    penalty is not chosen on the same rows; a choice among a few penalties moves little. Of more than 10,000 training
    rows, so many, evenly spaced, are left out.

    Source: R. Barber, E. Candès, A. Ramdas and R. Tibshirani, "Predictive inference with the jackknife+", 2021, arXiv
    1905.02928.
    """
    rows, Y = _left_out(training)
    rank = rank_of(len(Y), level)
    low, high = np.full((2, len(X), Y.shape[1]), np.inf) * np.array([-1, 1])[:, None, None]
    if rank > len(Y):
        return low, high
    left, cross = _rotated(solver, rows), solver.cross
    step = max(1, BLOCK_VALUES // len(Y))
    for q, alpha in enumerate(alphas):
        inverse = 1 / (solver.values + alpha)
        weights = inverse * cross[:, q]
        freedom = 1 - 1 / solver.n_rows - left**2 @ inverse
        errors = Y[:, q] - solver.y_mean[q] - left @ weights
        # What a row that decides its own prediction says of the others is lost in rounding: it bounds nothing.
        says = freedom > LEAST_FREEDOM
        residuals = np.where(says, errors, 0) / np.where(says, freedom, 1)
        widths = np.where(says, np.abs(residuals), np.inf)
        for chunk in row_chunks(X):
            rotated = _rotated(solver, X[chunk])
            for start in range(0, len(rotated), step):
                z = rotated[start : start + step]
                place = slice(chunk.start + start, chunk.start + start + len(z))
                moved = residuals * (1 / solver.n_rows + (z * inverse) @ left.T)
                without = solver.y_mean[q] + (z @ weights)[:, None] - moved
                low[place, q] = -np.partition(widths - without, rank - 1, axis=1)[:, rank - 1]
                high[place, q] = np.partition(without + widths, rank - 1, axis=1)[:, rank - 1]
    return low, high


def _left_out(training: Sequence[Part]) -> Part:
    """The rows that are left out one by one, as float64, and their numbers (n, Q)."""
    lengths = [len(Y) for _, Y in training]
    ends = np.cumsum(lengths)
    chosen = np.arange(ends[-1])
    if len(chosen) > LEAVE_ONE_OUT_ROWS:
        chosen = np.linspace(0, ends[-1] - 1, LEAVE_ONE_OUT_ROWS).astype(np.int64)
    found = []
    for (X, Y), end, length in zip(training, ends, lengths, strict=True):
        inside = chosen[(chosen >= end - length) & (chosen < end)] - (end - length)
        found.append((np.asarray(read_rows(X, inside), dtype=np.float64), Y[inside]))
    return np.concatenate([X for X, _ in found]), np.concatenate([Y for _, Y in found])


def _rotated(solver: LeastSquares, X: Any) -> Numbers:
    rotated: Numbers = (np.asarray(X, dtype=np.float64) - solver.mean) @ solver.vectors
    return rotated
