"""One-pass sums of features and of the numbers to predict, and the least squares that follow from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probe.core.lazy import Beside
from probe.heads.shared.moments import FLOAT64_PRODUCTS, ClassMoments, eigenbasis
from probe.heads.shared.numbers import Numbers, Part

# Leave-one-out errors of this many rows, evenly spaced, place a penalty well enough; every row takes part in the fit.
LEAVE_ONE_OUT_ROWS = 10_000
# Below this share of itself in its own prediction, what a row says about the others is lost in rounding.
LEAST_FREEDOM = 1e-10


class LeastSquares:
    """The scatter of N rows in its eigenbasis, from which the coefficients of every ridge penalty follow.

    With centred rows X = U S V' and L = S^2, W(alpha) = V (L + alpha)^-1 V' X'Y. One pass over the rows, in the blocks
    and the precision of `ClassMoments`, collects the second moments of [X | Y]; Y is brought to mean 0 and variance 1
    first, so that no digit is lost where rows are multiplied in float32. Fewer rows than half the features span little
    of a (D, D) matrix: theirs comes from the rows themselves.

    Args:
        parts: Rows and their numbers.
        device: Where the pass is computed.
        centre: Whether an intercept is fitted; else rows and numbers are taken about 0.

    Attributes:
        n_rows: N.
        mean: (D,) of the features; 0 where nothing is centred.
        y_mean: (Q,) of the numbers, likewise.
        y_variance: (Q,), divided by N.
        values: (R,) eigenvalues L above rounding.
        vectors: (D, R) their directions V.
        cross: (R, Q) V' X'Y.
    """

    def __init__(self, parts: Sequence[Part], device: str = "cpu", *, centre: bool = True):
        Y = np.concatenate([numbers for _, numbers in parts])
        self.n_rows, width = len(Y), parts[0][0].shape[1]
        self.y_mean, self.y_variance = Y.mean(axis=0), Y.var(axis=0)
        scale = np.where(self.y_variance > 0, np.sqrt(self.y_variance), 1.0)
        if self.n_rows <= width / 2:
            rows = np.concatenate([np.asarray(X, dtype=np.float64) for X, _ in parts])
            self.mean = rows.mean(axis=0) if centre else np.zeros(width)
            self.y_mean = self.y_mean if centre else np.zeros_like(self.y_mean)
            left, roots, right = np.linalg.svd(rows - self.mean, full_matrices=False)
            kept = roots > 10 * np.finfo(np.float64).eps * np.sqrt(width) * roots.max()
            self.values, self.vectors = roots[kept] ** 2, right[kept].T
            self.cross = roots[kept, None] * (left[:, kept].T @ (Y - self.y_mean))
            return
        small = self.n_rows * (width + Y.shape[1]) ** 2 <= FLOAT64_PRODUCTS
        moments = ClassMoments(1, width + Y.shape[1], second="full", device=device)
        for X, numbers in parts:
            dtype = np.float64 if small or X.dtype == np.float64 else np.float32
            moments.update(Beside(X, (numbers - self.y_mean) / scale, dtype), np.zeros(len(X), dtype=np.int64))
        scatter, self.mean = moments.total(), moments.mean[:width]
        if not centre:
            mean = np.append(self.mean, self.y_mean / scale)
            scatter += self.n_rows * np.outer(mean, mean)
            self.mean, self.y_mean = np.zeros(width), np.zeros_like(self.y_mean)
        self.values, self.vectors = eigenbasis(scatter[:width, :width], moments.rounding)
        self.cross = self.vectors.T @ scatter[:width, width:] * scale

    def linear_form(self, alphas: NDArray[np.float64]) -> tuple[Numbers, Numbers]:
        """Coefficients (Q, D) and intercepts (Q,) at one penalty for each column."""
        coef = (self.cross / (self.values[:, None] + alphas)).T @ self.vectors.T
        return coef, self.y_mean - coef @ self.mean
