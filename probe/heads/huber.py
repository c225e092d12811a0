"""Linear regression that counts large errors by their size, not by its square."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probe.core.errors import InputError
from probe.heads.shared.numbers import LinearNumbers, Numbers, scaling_of
from probe.heads.shared.penalised import PenalisedNumbers


class HuberRegression(LinearNumbers, PenalisedNumbers):
    """Minimises sum_i (s + H((y_i - w x_i - b) / s) s) + N alpha |w|^2 over w, b and s: H(e) = e^2 up to epsilon.

    Beyond it H(e) = 2 epsilon |e| - epsilon^2, so that a few rows that are far off move the line by a bounded part.
    The scale s of the errors is fitted too, so that epsilon does not depend on the unit. Features and numbers are
    brought to mean 0 and variance 1 over the training rows first; each column is a convex problem, solved by
    scikit-learn's `HuberRegressor`. The penalty is that of the smallest absolute error on the validation rows, else on
    a tenth of the training rows spread over the range; then it is fitted again on all. Rows are held in memory.

    Source: A. Owen, "A robust hybrid of lasso and ridge regression", 2007, after P. Huber, "Robust Estimation of a
    Location Parameter", 1964.

    Args:
        epsilon: In scales; 1.35 loses a twentieth of least squares' efficiency where errors are normal.
        alphas: Penalties to choose from, per row.
        max_iter: Steps of L-BFGS.
        random_state: Seeds the choice of validation rows where none are given.

    Attributes:
        alpha_: The penalty chosen.
        coef_: (Q, D).
        intercept_: (Q,).
        n_iter_: Steps of L-BFGS, of the column that took most.
    """

    def __init__(
        self,
        epsilon: float = 1.35,
        alphas: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        max_iter: int = 1000,
        random_state: int | None = 0,
    ):
        self.epsilon = epsilon
        self.alphas = alphas
        self.max_iter = max_iter
        self.random_state = random_state

    def check_parameters(self) -> None:
        super().check_parameters()
        if not self.epsilon >= 1:
            raise InputError(f"epsilon={self.epsilon}, expected 1 or more: 1.35 is usual")

    def _judge(self, X: Numbers, Y: Numbers, trained: Numbers) -> float:
        return float((np.abs(Y - self._means(X)).mean(axis=0) / scaling_of(trained)[1]).mean())

    def _keep(self, X: Numbers, Y: Numbers, alpha: float) -> None:
        from sklearn.linear_model import HuberRegressor

        mean, deviation = scaling_of(X)
        centre, unit = scaling_of(Y)
        rows, found, self.n_iter_ = (X - mean) / deviation, [], 0
        for values in ((Y - centre) / unit).T:
            solver = HuberRegressor(epsilon=self.epsilon, alpha=alpha * len(rows), max_iter=self.max_iter, tol=1e-6)
            solver.fit(rows, values)
            found.append(np.append(solver.coef_, solver.intercept_))
            self.n_iter_ = max(self.n_iter_, int(solver.n_iter_))
        solved = np.stack(found)
        self.coef_ = unit[:, None] * solved[:, :-1] / deviation
        self.intercept_ = centre + unit * solved[:, -1] - self.coef_ @ mean
