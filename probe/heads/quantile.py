"""Linear quantile regression at several levels that never cross."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from probe.core.errors import InputError
from probe.heads.shared.numbers import Numbers, scaling_of
from probe.heads.shared.penalised import PenalisedNumbers

MEDIAN = 0.5


class QuantileRegression(PenalisedNumbers):
    """Minimises for each level q the mean of max(q e, (q - 1) e) + alpha |w|_1, e the number less w x + b.

    Features are brought to mean 0 and variance 1 over the training rows first. Each is a linear program, solved by
    scikit-learn's `QuantileRegressor`; the predictions of a row are sorted over the levels, which makes none worse
    (V. Chernozhukov, I. Fernández-Val and A. Galichon, "Quantile and Probability Curves Without Crossing", 2010). The
    penalty is one for all levels and columns, that of the smallest loss on the validation rows, else on a tenth of the
    training rows spread over the range; then it is fitted again on all. For thousands of rows and some hundred
    features: a program holds two numbers per row, and there is one for each level, column and penalty.

    Source: R. Koenker and G. Bassett, "Regression Quantiles", 1978.

    Args:
        levels: Between 0 and 1, 0.5 among them: the median is what the head predicts.
        alphas: Penalties to choose from; they do not change with the unit of the numbers.
        random_state: Seeds the choice of validation rows where none are given.

    Attributes:
        alpha_: The penalty chosen.
        levels_: (L,) ascending.
        coef_: (Q, L, D).
        intercept_: (Q, L).
    """

    coef_: Numbers
    intercept_: Numbers

    def __init__(
        self,
        levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        alphas: Sequence[float] = (0.001, 0.01, 0.1),
        random_state: int | None = 0,
    ):
        self.levels = levels
        self.alphas = alphas
        self.random_state = random_state

    def check_parameters(self) -> None:
        super().check_parameters()
        levels = np.asarray(self.levels, dtype=float)
        if levels.ndim != 1 or MEDIAN not in levels or not ((levels > 0) & (levels < 1)).all():
            raise InputError(f"levels={self.levels}, expected numbers between 0 and 1 with 0.5 among them: add it")
        if len(set(levels.tolist())) < len(levels):
            raise InputError(f"levels={self.levels} names one twice, expected each once: leave it out")

    def quantiles(self, X: Any) -> Numbers:
        """(N, Q, L) numbers that are not passed with the chances `levels_`, ascending."""
        flat = self._in_chunks(X, lambda rows: self._quantiles(rows).reshape(len(rows), -1))
        return flat.astype(np.float64).reshape(len(flat), *self.intercept_.shape)

    def interval(self, X: Any, level: float) -> tuple[Numbers, Numbers]:
        """Ends (N, Q) of the middle `level` of the numbers, between the levels linearly; at most the outermost two."""
        found = self.quantiles(X)
        ends = []
        for wanted in ((1 - level) / 2, (1 + level) / 2):
            place = float(np.interp(wanted, self.levels_, np.arange(len(self.levels_))))
            below, part = int(place), place % 1
            above = min(below + 1, len(self.levels_) - 1)
            ends.append((1 - part) * found[..., below] + part * found[..., above])
        return ends[0], ends[1]

    def _quantiles(self, X: Any) -> Numbers:
        return np.sort(np.einsum("nd,qld->nql", np.asarray(X, dtype=np.float64), self.coef_) + self.intercept_, axis=2)

    def _means(self, X: Any) -> Numbers:
        return self._quantiles(X)[..., int(np.searchsorted(self.levels_, MEDIAN))]

    def _judge(self, X: Numbers, Y: Numbers, trained: Numbers) -> float:
        errors = (Y[:, :, None] - self._quantiles(X)) / scaling_of(trained)[1][:, None]
        return float(np.maximum(self.levels_ * errors, (self.levels_ - 1) * errors).mean())

    def _keep(self, X: Numbers, Y: Numbers, alpha: float) -> None:
        from sklearn.linear_model import QuantileRegressor

        mean, deviation = scaling_of(X)
        centre, scale = scaling_of(Y)
        shape = Y.shape[1], len(self.levels_)
        self.coef_, self.intercept_ = np.empty((*shape, X.shape[1])), np.empty(shape)
        for q, values in enumerate(((Y - centre) / scale).T):
            for place, level in enumerate(self.levels_):
                fitted = QuantileRegressor(quantile=level, alpha=alpha).fit((X - mean) / deviation, values)
                self.coef_[q, place] = scale[q] * fitted.coef_ / deviation
                self.intercept_[q, place] = centre[q] + scale[q] * fitted.intercept_ - self.coef_[q, place] @ mean
