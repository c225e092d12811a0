"""Least squares without a penalty, of minimum norm where there are more features than rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.heads.shared.base import Validation
from probe.heads.shared.jackknife import jackknife_plus
from probe.heads.shared.number_moments import LeastSquares
from probe.heads.shared.numbers import LinearNumbers, Numbers, Part


class OrdinaryLeastSquares(LinearNumbers):
    """Minimises sum_i |y_i - W x_i - b|^2; of all that do, the W of smallest norm.

    Chooses nothing: validation rows are further training rows. One pass over rows that may be larger than memory.
    Directions in which the features hardly vary (below 1e-7 of the widest, in standard deviations) count as constant.

    Args:
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        coef_: (Q, D).
        intercept_: (Q,).
    """

    def __init__(self, device: str = "auto"):
        self.device = device

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,) or (N, Q), and on the validation rows too."""
        solver = LeastSquares(self._check_parts(X, y, validation), self.device)
        self.coef_, self.intercept_ = solver.linear_form(np.zeros_like(solver.y_mean))
        return self

    def jackknife_plus(self, X: Any, training: Sequence[Part], level: float) -> tuple[Numbers, Numbers]:
        """Ends (N, Q) of intervals from the fits without each training row, as those of ridge at no penalty."""
        training = [(self._as_fitted(rows), numbers) for rows, numbers in training]
        X, solver = self._as_fitted(X), LeastSquares(training, self.device)
        return jackknife_plus(solver, np.zeros_like(solver.y_mean), training, X, level)
