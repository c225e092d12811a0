"""Ridge for rows with several labels: least squares on targets of +-1, a label on the rows of which it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.core.arrays import RowStack, RowSubset, row_chunks
from probe.core.base import IntArray
from probe.core.targets.labels import UNKNOWN, Labels
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.number_moments import LeastSquares
from probe.heads.shared.ridge_numbers import penalties
from probe.heads.shared.several_labels import SeveralLabels
from probe.metrics.multilabel import mean_average_precision


class RidgeLabels(SeveralLabels):
    """Minimises for each label the sum over its known rows of (y_i - w x_i - b)^2, plus alpha |w|^2, y = +-1.

    Labels that are known of the same rows share one eigenbasis, which serves every penalty. The penalty of best mAP
    wins, of equal ones that of the smaller squared error: on the validation rows when given (then refitted on both),
    else on a tenth of the training rows, stratified by the rarest label. A label is predicted where its score, a
    regression to +-1 and no log-odds, is above 0. The head that `head=ridge` stands for on such data; it has no yaml of
    its own.

    Args:
        alphas: Penalties to choose from, or how many, log-spaced between 1e-8 and 1e8.
        alpha_per_target: Takes no part; see `RidgeNumbers`.
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        alpha_: The penalty chosen.
        coef_, intercept_: (K, D) and (K,).
    """

    searches: ClassVar[Mapping[str, str]] = {"alpha": "alphas"}
    unordered: ClassVar[tuple[str, ...]] = ("alphas",)
    reads_unknown: ClassVar[bool] = True
    log_probabilities = False
    coef_: FloatArray
    intercept_: FloatArray

    def __init__(self, alphas: int | Sequence[float] = 17, alpha_per_target: bool = False, device: str = "auto"):
        self.alphas = alphas
        self.alpha_per_target = alpha_per_target
        self.device = device

    def check_parameters(self) -> None:
        penalties(self.alphas)

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and targets y (N, K), and chooses the penalty."""
        self.__dict__.pop("selection_", None)
        alphas = penalties(self.alphas)
        X, targets = self._check_fit(X, y)
        check_lazy(X)
        if validation is not None:
            X_val = self._check_rows(validation[0], reset=False)
            check_lazy(X_val, "the validation rows")
            val_targets = self._targets(validation[1], len(X_val))
            self._choose(X, targets, X_val, val_targets, alphas, "validation")
            self._keep_choice()
            every = RowSubset(RowStack([X, X_val]), np.arange(len(X) + len(X_val)))
            return self._keep(every, np.concatenate([targets, val_targets]))
        held = hold_out(Labels().strata(targets), 0)
        self.alpha_ = float(alphas[(len(alphas) - 1) // 2])
        if len(alphas) > 1 and held.any():
            inside, outside = np.flatnonzero(held), np.flatnonzero(~held)
            self._choose(RowSubset(X, outside), targets[outside], RowSubset(X, inside), targets[inside], alphas,
                         HELD_OUT)  # fmt: skip
        return self._keep(X, targets)

    def _keep(self, X: Any, targets: IntArray) -> Self:
        (self.coef_,), (self.intercept_,) = self._forms(X, targets, [self.alpha_])
        return self

    def _forms(self, X: Any, targets: IntArray, alphas: Sequence[float]) -> tuple[FloatArray, FloatArray]:
        """Coefficients (A, K, D) and intercepts (A, K) of all penalties."""
        n_labels = targets.shape[1]
        coefs, intercepts = np.zeros((len(alphas), n_labels, X.shape[1])), np.zeros((len(alphas), n_labels))
        patterns, group = np.unique(targets != UNKNOWN, axis=1, return_inverse=True)
        for g, known in enumerate(patterns.T):
            labels, rows = np.flatnonzero(group == g), np.flatnonzero(known)
            if not len(rows):  # nothing is known of it: no way to lean
                continue
            part = X if len(rows) == len(targets) else RowSubset(X, rows)
            signs = (2 * targets[np.ix_(rows, labels)] - 1).astype(np.float64)
            solver = LeastSquares([(part, signs)], self.device)
            for a, alpha in enumerate(alphas):
                coefs[a, labels], intercepts[a, labels] = solver.linear_form(np.full(len(labels), alpha))
        return coefs, intercepts

    def _choose(
        self, X: Any, targets: IntArray, X_val: Any, val_targets: IntArray, alphas: FloatArray, on: str
    ) -> None:
        coefs, intercepts = self._forms(X, targets, alphas.tolist())
        chunks = [np.asarray(X_val[rows], dtype=np.float64) for rows in row_chunks(X_val)]
        known, there = val_targets != UNKNOWN, bool((val_targets == 1).any())
        scores, errors = [], []
        for coef, intercept in zip(coefs, intercepts, strict=True):
            logits = np.concatenate([chunk @ coef.T + intercept for chunk in chunks])
            scores.append(mean_average_precision(logits, val_targets)[0] if there else 0.0)
            errors.append(float(((logits - 2.0 * val_targets + 1) ** 2 * known).sum() / known.sum()))
        best = max(range(len(alphas)), key=lambda a: (scores[a], -errors[a]))
        self.alpha_, self.coef_, self.intercept_ = float(alphas[best]), coefs[best], intercepts[best]
        searched = zip(alphas.tolist(), scores, errors, strict=True)
        self.selection_ = {
            "on": on,
            "searched": [{"alpha": a, "score": score, "squared_error": error} for a, score, error in searched],
            "chosen": {"alpha": self.alpha_},
        }

    def _logits(self, X: Any) -> FloatArray:
        return np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_
