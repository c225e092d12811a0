"""Proportional odds: grades whose order counts and whose distances do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from probe.heads.shared.numbers import Numbers, check_levels, scaling_of
from probe.heads.shared.penalised import PenalisedNumbers


class OrdinalRegression(PenalisedNumbers):
    """P(y > v_k | x) = sigmoid(w x - c_k) for grades v_1 < … < v_K; minimises -mean log P(y | x) + alpha / 2 |w|^2.

    The grades are the different numbers of the training rows, such as 0 to 4 of a disease; only their order is used,
    but for what is predicted, the mean over the grades. One w for all of them, thresholds c_1 < … < c_{K-1}. Features
    are brought to mean 0 and variance 1 over the training rows first; each column is a convex problem (Pratt, 1981),
    solved by L-BFGS over w, c_1 and the logarithms of the distances between thresholds. Of two grades it is logistic
    regression. The penalty is that of the largest likelihood on the validation rows, where a number that is none of
    the grades counts as the nearest, else on a tenth of the training rows spread over the range; then it is fitted
    again on all. Rows are held in memory.

    Source: P. McCullagh, "Regression Models for Ordinal Data", 1980.

    Args:
        alphas: Penalties to choose from.
        levels: Whose quantiles the metrics read.
        max_iter: Steps of L-BFGS.
        random_state: Seeds the choice of validation rows where none are given.

    Attributes:
        alpha_: The penalty chosen.
        coef_: (Q, D).
        thresholds_: (Q, K - 1) ascending; inf above the last grade of a column that has fewer than others.
        grades_: (Q, K) ascending; the last one stands again where a column has fewer.
        levels_: (L,) ascending.
        n_iter_: Steps of L-BFGS, of the column that took most.
    """

    kept: ClassVar[tuple[str, ...]] = ("coef_", "thresholds_", "grades_")
    coef_: Numbers
    thresholds_: Numbers
    grades_: Numbers

    def __init__(
        self,
        alphas: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        max_iter: int = 1000,
        random_state: int | None = 0,
    ):
        self.alphas = alphas
        self.levels = levels
        self.max_iter = max_iter
        self.random_state = random_state

    def check_parameters(self) -> None:
        super().check_parameters()
        check_levels(self.levels)

    def probabilities(self, X: Any) -> Numbers:
        """(N, Q, K) of the grades."""
        flat = self._in_chunks(X, lambda rows: self._probabilities(rows).reshape(len(rows), -1))
        return flat.astype(np.float64).reshape(len(flat), *self.grades_.shape)

    def quantiles(self, X: Any) -> Numbers:
        """(N, Q, L) the lowest grades that are not passed with the chances `levels_`."""
        return self._inverse(X, self.levels_)

    def interval(self, X: Any, level: float) -> tuple[Numbers, Numbers]:
        """Lowest and highest grade (N, Q) of the middle `level` of the distributions."""
        found = self._inverse(X, np.array([(1 - level) / 2, (1 + level) / 2]))
        return found[..., 0], found[..., 1]

    def _inverse(self, X: Any, levels: Numbers) -> Numbers:
        below = self.probabilities(X).cumsum(axis=2)[..., None] < levels - 1e-12
        places = np.minimum(below.sum(axis=2), self.grades_.shape[1] - 1)
        return np.stack([grades[places[:, q]] for q, grades in enumerate(self.grades_)], axis=1)

    def _means(self, X: Any) -> Numbers:
        found: Numbers = np.einsum("nqk,qk->nq", self._probabilities(X), self.grades_)
        return found

    def _probabilities(self, X: Any) -> Numbers:
        scores = np.asarray(X, dtype=np.float64) @ self.coef_.T
        above = expit(scores[:, :, None] - self.thresholds_)
        ends = np.ones((*scores.shape, 1))
        return -np.diff(np.concatenate([ends, above, 0 * ends], axis=2), axis=2)

    def _judge(self, X: Numbers, Y: Numbers, trained: Numbers) -> float:
        found = self._probabilities(X)
        own = [found[np.arange(len(Y)), q, _nearest(Y[:, q], grades)] for q, grades in enumerate(self.grades_)]
        return float(-np.log(np.maximum(own, np.finfo(float).tiny)).mean())

    def _keep(self, X: Numbers, Y: Numbers, alpha: float) -> None:
        mean, deviation = scaling_of(X)
        rows = (X - mean) / deviation
        fits = [_solved(rows, values, alpha, self.max_iter) for values in Y.T]
        coefficients, thresholds, grades, steps = zip(*fits, strict=True)
        self.n_iter_ = max(steps)
        self.coef_ = np.stack(coefficients) / deviation
        n_grades = max(map(len, grades))
        self.grades_ = np.stack([np.pad(g, (0, n_grades - len(g)), mode="edge") for g in grades])
        moved = [c + w @ mean for c, w in zip(thresholds, self.coef_, strict=True)]
        self.thresholds_ = np.stack([np.pad(c, (0, n_grades - 1 - len(c)), constant_values=np.inf) for c in moved])


def _solved(X: Numbers, y: Numbers, alpha: float, max_iter: int) -> tuple[Numbers, Numbers, Numbers, int]:
    """w (D,), thresholds (K - 1,) and grades (K,) of one column, and the steps taken."""
    from scipy.optimize import minimize

    grades, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(grades) == 1:
        return np.zeros(X.shape[1]), np.empty(0), grades, 1
    share = counts.cumsum()[:-1] / len(y)
    start = np.log(share / (1 - share))
    theta = np.concatenate([np.zeros(X.shape[1]), start[:1], np.log(np.diff(start))])
    solved = minimize(loss, theta, (X, codes, alpha), "L-BFGS-B", jac=True,
                      options={"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": 1e-14, "gtol": 1e-9})  # fmt: skip
    w, c = solved.x[: X.shape[1]], solved.x[X.shape[1] :]
    return w, np.cumsum(np.concatenate([c[:1], np.exp(c[1:])])), grades, int(solved.nit)


def loss(theta: Numbers, X: Numbers, codes: NDArray[np.int64], alpha: float) -> tuple[float, Numbers]:
    """The loss and its gradient by theta = (w, c_1, log(c_2 - c_1), …), of rows X (N, D) and their grades' numbers.

    With u and l the thresholds above and below a row's grade, less w x:
    log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - e^(l - u)), which no digit is lost in.
    """
    n_features = X.shape[1]
    w, c = theta[:n_features], theta[n_features:]
    steps = np.exp(np.minimum(c[1:], 50.0))
    ends = np.concatenate([[-np.inf], np.cumsum(np.concatenate([c[:1], steps])), [np.inf]])
    gaps = np.concatenate([[np.inf], steps, [np.inf]])[codes]
    scores = X @ w
    upper, lower = ends[codes + 1] - scores, ends[codes] - scores
    value = -(log_expit(upper) + log_expit(-lower) + np.log(-np.expm1(-gaps))).mean() + alpha / 2 * float(w @ w)
    between = 1 / np.expm1(np.minimum(gaps, 700.0))
    by_upper, by_lower = -expit(-upper) - between, expit(lower) + between
    by_end = np.zeros(len(ends))
    np.add.at(by_end, codes + 1, by_upper)
    np.add.at(by_end, codes, by_lower)
    by_threshold = by_end[1:-1][::-1].cumsum()[::-1] / len(X)  # a threshold moves all above it
    by_w = -(by_upper + by_lower) @ X / len(X) + alpha * w
    return float(value), np.concatenate([by_w, by_threshold[:1], by_threshold[1:] * steps])


def _nearest(values: Numbers, grades: Numbers) -> NDArray[np.int64]:
    places = np.searchsorted((grades[1:] + grades[:-1]) / 2, values)
    return np.searchsorted(grades, grades[places])
