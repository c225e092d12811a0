"""A head of your own: ridge regression behind a random projection, as in RanPAC (McDonnell et al., 2023).

In this folder:

    probe --config-dir conf -m dataset=iris,wine head=random_ridge,ridge
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from probe.estimator import Head
from probe.heads.ridge import RidgeProbe


class RandomRidge(Head):
    """Ridge on relu(X P): P random and fixed, its width chosen on validation rows.

    Args:
        widths: Numbers of random features to choose from.
        random_state: Of the projection.
    """

    unordered: ClassVar[tuple[str, ...]] = ("widths",)

    def __init__(self, widths: tuple[int, ...] = (64, 512), random_state: int = 0):
        self.widths = widths
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, validation: Any = None) -> RandomRidge:
        """Fits on the rows; chooses on the validation rows where there are any."""
        X, _ = self._check_fit(X, y)
        X = np.asarray(X, dtype=np.float64)
        self.mean_, self.scale_ = X.mean(axis=0), X.std(axis=0) + 1e-12
        searched = []
        for width in self.widths if validation is not None else self.widths[-1:]:
            self.projection_ = np.random.default_rng(self.random_state).normal(size=(X.shape[1], width))
            ridge = RidgeProbe().fit(self._lifted(X), y)
            score = ridge.score(self._lifted(np.asarray(validation[0])), validation[1]) if validation else 0.0
            searched.append({"width": width, "score": float(score)})
            if score >= max(s["score"] for s in searched):
                best = self.projection_, ridge
        self.projection_, ridge = best
        self.coef_, self.intercept_ = ridge.coef_, ridge.intercept_
        if validation is not None:
            chosen = {"width": self.projection_.shape[1]}
            self.selection_ = {"on": "validation", "searched": searched, "chosen": chosen}
        return self

    def _lifted(self, X: Any) -> Any:
        return np.maximum((X - self.mean_) / self.scale_ @ self.projection_, 0)

    def _logits(self, X: Any) -> Any:
        return self._lifted(np.asarray(X)) @ self.coef_.T + self.intercept_
