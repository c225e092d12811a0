"""Ridge regression on numbers: every penalty from one eigendecomposition, leave-one-out in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.core.arrays import read_rows, row_chunks
from probe.core.errors import InputError
from probe.heads.shared.base import Validation
from probe.heads.shared.jackknife import jackknife_plus
from probe.heads.shared.number_moments import LEAST_FREEDOM, LEAVE_ONE_OUT_ROWS, LeastSquares
from probe.heads.shared.numbers import LinearNumbers, Numbers, Part

NOTHING_SAID = 4.0
"""Squared error of a row that says nothing of the others, as a share of the variance."""
COLUMNS_AT_ONCE = 256
"""Of predictions, over penalties."""


class RidgeNumbers(LinearNumbers):
    """Minimises sum_i |y_i - W x_i - b|^2 + alpha |W|^2 over Q columns y, intercept b unpenalised.

    The penalty is that of the smallest squared error: on the validation rows when given (then refitted on both), else
    leaving one out, where row i without itself has the residual (y_i - f_i) / (1 - h_i), h_i = 1/n + z_i' (L +
    alpha)^-1 z_i, z = V'(x - m). One penalty serves all columns, that of the smallest sum of their errors, as in
    scikit-learn's `RidgeCV`; or each has its own.

    The head that `head=ridge` stands for on numbers, with the same parameters; it has no yaml of its own.

    Args:
        alphas: Penalties to choose from, or how many, log-spaced between 1e-8 and 1e8.
        alpha_per_target: Whether each column has its own penalty; where folds choose, all have one.
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        alpha_: The penalty chosen, or (Q,) of them.
        alphas_: (n_alphas,) what it was chosen from.
        squared_errors_: (n_alphas, Q) mean squared errors of the rows that it was chosen on.
    """

    searches: ClassVar[Mapping[str, str]] = {"alpha": "alphas"}
    unordered: ClassVar[tuple[str, ...]] = ("alphas",)

    def __init__(self, alphas: Any = 17, alpha_per_target: bool = False, device: str = "auto"):
        self.alphas = alphas
        self.alpha_per_target = alpha_per_target
        self.device = device

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,) or (N, Q), and chooses the penalty."""
        self.alphas_ = penalties(self.alphas)
        parts = self._check_parts(X, y, validation)
        solver = LeastSquares(parts[:1], self.device)
        self._choose(solver, *parts[-1], leave_one_out=validation is None)
        self._keep(solver)
        if validation is not None:
            self._keep_choice()
            self._keep(LeastSquares(parts, self.device))
        return self

    def check_parameters(self) -> None:
        penalties(self.alphas)

    def jackknife_plus(self, X: Any, training: Sequence[Part], level: float) -> tuple[Numbers, Numbers]:
        """Ends (N, Q) of intervals from the fits without each of the rows that it was fitted on.

        Args:
            X: (N, D) rows to predict.
            training: The rows and numbers that it was fitted on, in parts, validation rows among them.
            level: Wanted chance that an interval holds the number, see `probe.heads.shared.jackknife`.
        """
        training = [(self._as_fitted(rows), numbers) for rows, numbers in training]
        X, solver = self._as_fitted(X), LeastSquares(training, self.device)
        return jackknife_plus(solver, np.broadcast_to(self.alpha_, solver.y_mean.shape), training, X, level)

    def _keep(self, solver: LeastSquares) -> None:
        self.coef_, self.intercept_ = solver.linear_form(np.broadcast_to(self.alpha_, solver.y_mean.shape))

    def _choose(self, solver: LeastSquares, X: Any, Y: Numbers, *, leave_one_out: bool) -> None:
        """Sets `alpha_` and what tells of its choice."""
        if leave_one_out and len(X) > LEAVE_ONE_OUT_ROWS:
            judged = np.linspace(0, len(X) - 1, LEAVE_ONE_OUT_ROWS).astype(np.int64)
            # From the file: through the mapping, rows far apart would make most of it resident.
            X, Y = read_rows(X, judged), Y[judged]
        squares = np.zeros((len(self.alphas_), Y.shape[1]))
        for rows in row_chunks(X):
            for a, residuals in enumerate(
                residuals_by_penalty(solver, self.alphas_, (X[rows], Y[rows]), leave_one_out)
            ):
                squares[a] += np.where(np.isnan(residuals), NOTHING_SAID * solver.y_variance, residuals**2).sum(axis=0)
        self.squared_errors_ = squares / len(X)
        # As shares of the variance: differences do not change with the unit.
        variance = np.where(solver.y_variance > 0, solver.y_variance, 1.0)
        scores = -self.squared_errors_.sum(axis=1) / variance.sum()
        self.alpha_ = self.alphas_[np.argmin(self.squared_errors_, axis=0)] if self.alpha_per_target else float(
            self.alphas_[np.argmax(scores)]
        )  # fmt: skip
        errors = self.squared_errors_.mean(axis=1).tolist()
        searched = zip(self.alphas_.tolist(), scores.tolist(), errors, strict=True)
        self.selection_ = {
            "on": "leave-one-out" if leave_one_out else "validation",
            "searched": [{"alpha": a, "score": score, "squared_error": error} for a, score, error in searched],
            "chosen": {"alpha": np.asarray(self.alpha_).tolist()},
        }


def penalties(alphas: Any) -> Numbers:
    """The penalties that a parameter `alphas` lists.

    Raises:
        InputError: They are none.
    """
    found = np.logspace(-8, 8, alphas) if isinstance(alphas, int) else np.asarray(alphas, float)
    if not (found.ndim == 1 and len(found) and (found >= 0).all() and np.isfinite(found).all()):
        raise InputError(f"alphas={alphas} are no penalties: give a number of them, or a list of values >= 0")
    return found


def residuals_by_penalty(solver: LeastSquares, alphas: Numbers, rows: Part, leave_one_out: bool) -> Iterator[Numbers]:
    """Yields (N, Q) numbers minus predictions for each penalty; of the fit without the row itself if so asked."""
    rotated = (np.asarray(rows[0], dtype=np.float64) - solver.mean) @ solver.vectors
    centred = rows[1] - solver.y_mean
    inverses = 1 / (solver.values[:, None] + alphas)
    freedom = np.ones((len(rotated), len(alphas)))
    if leave_one_out:
        freedom -= 1 / solver.n_rows + rotated**2 @ inverses
        freedom[freedom <= LEAST_FREEDOM] = np.nan
    # Predictions of several penalties are one product: those of a few columns alone would be thin, and slow.
    at_once = max(1, COLUMNS_AT_ONCE // centred.shape[1])
    for start in range(0, len(alphas), at_once):
        some = inverses[:, start : start + at_once]
        forms = some[:, :, None] * solver.cross[:, None]
        predicted = rotated @ forms.reshape(len(some), some.shape[1] * centred.shape[1])
        for a, of_penalty in enumerate(np.split(predicted, some.shape[1], axis=1), start):
            yield (centred - of_penalty) / freedom[:, a, None]
