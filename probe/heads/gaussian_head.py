"""A normal distribution per row: a mean and a scale that both follow the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import eigh
from scipy.special import ndtri

from probe.heads.shared.numbers import Numbers, check_levels, scaling_of
from probe.heads.shared.penalised import PenalisedNumbers

LEAST_SCALE = 1e-4
"""Of the deviation of the training rows, the least scale: rows hit exactly have no likelihood."""
N_ROUNDS, N_STARTS = 2, 10
"""Of weighted least squares, and of one scale for all rows before; more move no score."""
LEAST_PENALTY, LEAST_LEFT = 1e-10, 1e-6
"""Of the mean square of a feature, so that means have one answer; of 1 - leverage of many rows, rounding below."""
FARTHEST = -300.0
"""A logarithm of a scale that no optimum has, and whose square overflows."""


class GaussianHead(PenalisedNumbers):
    """Mean of log s + (y - m)^2 / (2 s^2) + alpha / 2 (|w|^2 + |v|^2), m = w x + b, log s = v x + c, by turns.

    Together the two have many optima, and where the means can hit every row the scales run off to 0, so that rounding
    decides. By turns both are convex: the means by least squares with weights 1 / s^2, from the one s for all rows that
    is in balance with them; the scales by the squares of what each row is missed by without itself, (y - m) over
    1 - its leverage, which few rows leave large. Two rounds, as those who weigh by estimated variances advise.

    Features and numbers are brought to mean 0 and variance 1 over the training rows first, so that the penalty does not
    change with a unit. It is that of the smallest loss on the validation rows, else on a tenth of the training rows
    spread over the range; then the head is fitted again on all. Rows are held in memory, in float64.

    Source: D. Nix and A. Weigend, "Estimating the mean and variance of the target probability distribution", 1994,
    with a linear function for their network; A. Harvey, "Estimating regression models with multiplicative
    heteroscedasticity", 1976, and R. Carroll and D. Ruppert, "Transformation and Weighting in Regression", 1988, for
    the turns.

    Args:
        alphas: Penalties to choose from.
        levels: Whose quantiles the metrics read.
        random_state: Seeds the choice of validation rows where none are given.

    Attributes:
        alpha_: The penalty chosen.
        coef_, intercept_: (Q, D) and (Q,) of the means.
        scale_coef_, scale_intercept_: Likewise of the logarithms of the scales.
        least_scale_: (Q,) below which no scale goes.
        levels_: (L,) ascending.
    """

    recipe: ClassVar[str] = "3"  # means and scales by turns, errors without each row to the last digits
    kept: ClassVar[tuple[str, ...]] = ("coef_", "intercept_", "scale_coef_", "scale_intercept_", "least_scale_")

    def __init__(
        self,
        alphas: Sequence[float] = (0.001, 0.01, 0.1, 1.0),
        levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        random_state: int | None = 0,
    ):
        self.alphas = alphas
        self.levels = levels
        self.random_state = random_state

    def check_parameters(self) -> None:
        super().check_parameters()
        check_levels(self.levels)

    def scales(self, X: Any) -> Numbers:
        """(N, Q) standard deviations."""
        return self._in_chunks(X, self._scales).astype(np.float64, copy=False)

    def quantiles(self, X: Any) -> Numbers:
        """(N, Q, L) of the normal distributions."""
        means = self._in_chunks(X, self._means)
        found: Numbers = means[:, :, None] + self.scales(X)[:, :, None] * ndtri(self.levels_)
        return found

    def interval(self, X: Any, level: float) -> tuple[Numbers, Numbers]:
        """Ends (N, Q) of the middle `level` of the normal distributions."""
        means, half = self._in_chunks(X, self._means), self.scales(X) * ndtri((1 + level) / 2)
        return means - half, means + half

    def _means(self, X: Any) -> Numbers:
        return np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_

    def _scales(self, X: Any) -> Numbers:
        logarithms = np.asarray(X, dtype=np.float64) @ self.scale_coef_.T + self.scale_intercept_
        found: Numbers = np.exp(np.clip(logarithms, np.log(self.least_scale_), 700))
        return found

    def _judge(self, X: Numbers, Y: Numbers, trained: Numbers) -> float:
        scale = self._scales(X)
        of_unit = np.log(self.least_scale_ / LEAST_SCALE)  # the loss in the unit of the training rows
        return float((np.log(scale) - of_unit + (Y - self._means(X)) ** 2 / (2 * scale**2)).mean())

    def _keep(self, X: Numbers, Y: Numbers, alpha: float) -> None:
        (mean, deviation), (centre, unit) = scaling_of(X), scaling_of(Y)
        rows = (X - mean) / deviation
        found = [by_turns(rows, values, alpha) for values in ((Y - centre) / unit).T]
        of_mean, of_scale = np.stack(found, axis=1)
        self.least_scale_ = unit * LEAST_SCALE
        self.coef_ = unit[:, None] * of_mean[:, 1:] / deviation
        self.intercept_ = centre + unit * of_mean[:, 0] - self.coef_ @ mean
        self.scale_coef_ = of_scale[:, 1:] / deviation
        self.scale_intercept_ = np.log(unit) + of_scale[:, 0] - self.scale_coef_ @ mean


def by_turns(X: Numbers, y: Numbers, alpha: float) -> Numbers:
    """(2, D + 1) intercept and coefficients of the means and of the logarithms of the scales."""
    alike, variance = LeastSquares(X, y, np.ones(len(y))), 0.01
    for _ in range(N_STARTS):  # weights of 1 / variance are a penalty of so much more: one decomposition for all
        _, missed = alike.fit(alpha * variance)
        variance = float(np.mean(missed**2)) + LEAST_SCALE**2
    of_scale = np.concatenate([[np.log(variance) / 2], np.zeros(X.shape[1])])
    for _ in range(N_ROUNDS):
        of_scale = scales_of(X, missed**2 + LEAST_SCALE**2, alpha, of_scale)
        logarithms = np.maximum(X @ of_scale[1:] + of_scale[0], np.log(LEAST_SCALE))
        of_mean, missed = LeastSquares(X, y, np.exp(-2 * logarithms)).fit(alpha)
    return np.stack([of_mean, scales_of(X, missed**2 + LEAST_SCALE**2, alpha, of_scale)])


class LeastSquares:
    """Minimises the mean of weights (y - w x - b)^2 / 2 + alpha / 2 |w|^2 for any alpha, from one eigendecomposition.

    Args:
        X, y, weights: (N, D), (N,) and (N,) positive.
    """

    def __init__(self, X: Numbers, y: Numbers, weights: Numbers):
        n, width = X.shape
        self.roots, self.shares = np.sqrt(weights), weights / weights.sum()
        self.centre, self.middle = self.shares @ X, float(self.shares @ y)
        self.rows, self.values = self.roots[:, None] * (X - self.centre), self.roots * (y - self.middle)
        self.least = max(LEAST_PENALTY * float(np.vdot(self.rows, self.rows)) / min(n, width), LEAST_PENALTY)
        # With as many unknowns as rows 1 - leverage is a difference of nearly equal numbers: there in terms of rows,
        # without the direction that the intercept takes, where it is a sum of squares.
        self.by_rows = width >= n - 2
        if self.by_rows:
            basis = contrasts(self.roots)
            seen = basis.T @ self.rows
            spectrum, directions = eigh(seen @ seen.T)
            self.turned = basis @ directions
        else:
            spectrum, self.directions = eigh(self.rows.T @ self.rows)
            self.turned = self.rows @ self.directions
        self.spectrum = np.maximum(spectrum, 0)
        self.inner = self.turned.T @ self.values

    def fit(self, alpha: float) -> tuple[Numbers, Numbers]:
        """
        Returns:
            (D + 1,) b and w; (N,) what each row is missed by where all others, and the others' mean, are fitted.
        """
        inverse = 1 / (self.spectrum + max(len(self.rows) * alpha, self.least))
        weighed = np.einsum("nd,nd,d->n", self.turned, self.turned, inverse)
        if self.by_rows:
            left_over = self.turned @ (self.inner * inverse)
            coef, left = self.rows.T @ left_over, np.maximum(weighed, np.finfo(float).tiny)
        else:
            coef = self.directions @ (self.inner * inverse)
            left_over, left = self.values - self.rows @ coef, np.maximum(1 - weighed - self.shares, LEAST_LEFT)
        return np.concatenate([[self.middle - self.centre @ coef], coef]), left_over / self.roots / left


def contrasts(roots: Numbers) -> Numbers:
    """(N, N - 1) orthonormal columns that are orthogonal to positive `roots`: those of a Householder reflection."""
    normal = roots / np.linalg.norm(roots)
    normal[0] += 1
    found: Numbers = np.eye(len(roots))[:, 1:] - np.outer(normal, 2 / (normal @ normal) * normal[1:])
    return found


def scales_of(X: Numbers, squares: Numbers, alpha: float, start: Numbers) -> Numbers:
    """(D + 1,) c and v that minimise `scale_loss`, which is convex, from a guess."""
    from scipy.optimize import minimize

    solved = minimize(scale_loss, start, (X, squares, alpha), "L-BFGS-B", jac=True,
                      options={"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-9})  # fmt: skip
    found: Numbers = solved.x
    return found


def scale_loss(theta: Numbers, X: Numbers, squares: Numbers, alpha: float) -> tuple[float, Numbers]:
    """Mean of log s + squares / (2 s^2) + alpha / 2 |v|^2, and its gradient by theta = (c, v), log s = v x + c."""
    logarithms = X @ theta[1:] + theta[0]
    relative = squares * np.exp(-2 * np.maximum(logarithms, FARTHEST))
    by_scale = (1 - relative) / len(X)
    value = float((logarithms + relative / 2).mean() + alpha / 2 * theta[1:] @ theta[1:])
    return value, np.concatenate([[by_scale.sum()], by_scale @ X + alpha * theta[1:]])
