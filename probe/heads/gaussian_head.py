"""A normal distribution per row: a mean and a scale that both follow the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.special import ndtri

from probe.heads.shared.numbers import Numbers, check_levels
from probe.heads.shared.penalised import PenalisedNumbers

LEAST_LOG_SCALE = float(np.log(1e-6))
"""A scale is at least a millionth of the deviation of the training rows: rows hit exactly have no likelihood."""


class GaussianHead(PenalisedNumbers):
    """Minimises the mean of log s + (y - m)^2 / (2 s^2) + alpha / 2 (|w|^2 + |v|^2), m = w x + b, log s = v x + c.

    Features and numbers are brought to mean 0 and variance 1 over the training rows first, so that the penalty does not
    change with a unit. L-BFGS from zero; the loss is not convex in mean and scale together. The penalty is that of the
    smallest loss on the validation rows, else on a tenth of the training rows spread over the range; then it is fitted
    again on all. Rows are held in memory, in float64.

    Source: D. Nix and A. Weigend, "Estimating the mean and variance of the target probability distribution", 1994,
    with a linear function for their network.

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
        of_unit = np.log(self.least_scale_) - LEAST_LOG_SCALE  # the loss in the unit of the training rows
        return float((np.log(scale) - of_unit + (Y - self._means(X)) ** 2 / (2 * scale**2)).mean())

    def _keep(self, X: Numbers, Y: Numbers, alpha: float) -> None:
        from scipy.optimize import minimize

        mean, deviation = X.mean(axis=0), X.std(axis=0)
        deviation = np.where(deviation > 0, deviation, 1.0)
        centre, unit = Y.mean(axis=0), np.where(Y.std(axis=0) > 0, Y.std(axis=0), 1.0)
        rows = (X - mean) / deviation
        found = []
        for values in ((Y - centre) / unit).T:
            start = np.zeros(2 * rows.shape[1] + 2)

            solved = minimize(loss, start, (rows, values, alpha), "L-BFGS-B", jac=True,
                              options={"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-9})  # fmt: skip
            found.append(solved.x.reshape(2, -1))
        of_mean, of_scale = np.stack(found, axis=1)
        self.least_scale_ = unit * np.exp(LEAST_LOG_SCALE)
        self.coef_ = unit[:, None] * of_mean[:, 1:] / deviation
        self.intercept_ = centre + unit * of_mean[:, 0] - self.coef_ @ mean
        self.scale_coef_ = of_scale[:, 1:] / deviation
        self.scale_intercept_ = np.log(unit) + of_scale[:, 0] - self.scale_coef_ @ mean


def loss(theta: Numbers, X: Numbers, y: Numbers, alpha: float) -> tuple[float, Numbers]:
    """The loss and its gradient by theta = (b, w, c, v), of rows X (N, D) and numbers y (N,)."""
    of_mean, of_scale = theta.reshape(2, -1)
    errors = y - X @ of_mean[1:] - of_mean[0]
    raw = X @ of_scale[1:] + of_scale[0]
    logarithms = np.clip(raw, LEAST_LOG_SCALE, -LEAST_LOG_SCALE)
    precision = np.exp(-2 * logarithms)
    value = (logarithms + errors**2 * precision / 2).mean() + alpha / 2 * float(theta @ theta)
    value -= alpha / 2 * (of_mean[0] ** 2 + of_scale[0] ** 2)
    by_mean = -errors * precision / len(y)
    by_scale = (1 - errors**2 * precision) * (raw == logarithms) / len(y)
    gradient = np.stack([np.concatenate([[by.sum()], by @ X]) for by in (by_mean, by_scale)])
    gradient[:, 1:] += alpha * np.stack([of_mean[1:], of_scale[1:]])
    return float(value), gradient.ravel()
