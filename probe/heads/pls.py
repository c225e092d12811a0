"""Partial least squares: regression on the directions of the features that vary with the numbers to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.core.errors import InputError
from probe.heads.shared.base import Validation
from probe.heads.shared.number_moments import LeastSquares
from probe.heads.shared.numbers import LinearNumbers, Numbers, Part

# What is left of the features' products with the numbers below this share of them is rounding.
LEAST_CROSS = 1e-12


class PartialLeastSquares(LinearNumbers):
    """Least squares on A scores t_a = X r_a, each the direction of largest covariance with what is left of Y.

    r_a is the leading left singular vector of X'Y, deflated by the scores before it, so that the scores are
    orthogonal. One component points along X'y; with as many as there are directions it is least squares. Each number
    of components costs nothing once the largest has been computed, from the second moments of one pass over the rows.
    That of the smallest squared error, as a share of the variance of each column, is taken: on the validation rows,
    else on a tenth of the training rows spread over the range; then it is fitted again on all.

    Source: S. Wold, "Soft modelling by latent variables", 1975; from second moments by B. Dayal and J. MacGregor,
    "Improved PLS algorithms", 1997. Departure: features are centred and not scaled (`standardize=true` scales them),
    the columns of Y are.

    Args:
        n_components: Numbers of components to choose from, or one; those beyond what rows and features allow count as
            that.
        random_state: Seeds the choice of validation rows where none are given.
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        n_components_: The number chosen.
        coef_: (Q, D).
        intercept_: (Q,).
    """

    searches: ClassVar[Mapping[str, str]] = {"n_components": "n_components"}
    unordered: ClassVar[tuple[str, ...]] = ("n_components",)

    def __init__(
        self, n_components: int | Sequence[int] = (1, 2, 5, 10, 25), random_state: int | None = 0, device: str = "auto"
    ):
        self.n_components = n_components
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,) or (N, Q), and chooses the number of components."""
        candidates = self._candidates()
        self.__dict__.pop("selection_", None)
        parts = self._check_parts(X, y, validation)
        self.n_components_ = candidates[(len(candidates) - 1) // 2]
        if judging := self._to_choose_on(parts, len(candidates)):
            self._choose(candidates, *judging)
        self._keep(LeastSquares(parts, self.device))
        return self

    def check_parameters(self) -> None:
        self._candidates()

    def _candidates(self) -> list[int]:
        """The numbers of components to choose from, ascending."""
        given = [self.n_components] if isinstance(self.n_components, int) else self.n_components
        whole = isinstance(given, list | tuple) and all(isinstance(n, int | np.integer) and n > 0 for n in given)
        if not whole or not len(given):
            raise InputError(f"n_components={given} are no numbers of components: give a list of them, from 1 on")
        return sorted(set(given))

    def _choose(self, candidates: Sequence[int], train: Part, judged: Part, on: str) -> None:
        solver = LeastSquares([train], self.device)
        path = coefficients(solver, candidates[-1])
        rotated = (np.asarray(judged[0][:], dtype=np.float64) - solver.mean) @ solver.vectors
        left = judged[1] - solver.y_mean
        variance = np.where(solver.y_variance > 0, solver.y_variance, 1.0)
        scores = [
            -float((((left - rotated @ path[min(n, len(path)) - 1]) ** 2).mean(axis=0) / variance).mean())
            for n in candidates
        ]
        self.n_components_ = candidates[int(np.argmax(scores))]
        searched = [{"n_components": n, "score": score} for n, score in zip(candidates, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": {"n_components": self.n_components_}}
        self._set(solver, path)
        self._keep_choice()

    def _keep(self, solver: LeastSquares) -> None:
        self._set(solver, coefficients(solver, self.n_components_))

    def _set(self, solver: LeastSquares, path: Sequence[Numbers]) -> None:
        chosen = path[min(self.n_components_, len(path)) - 1]
        self.coef_ = (solver.vectors @ chosen).T
        self.intercept_ = solver.y_mean - self.coef_ @ solver.mean


def coefficients(solver: LeastSquares, n_components: int) -> list[Numbers]:
    """Coefficients (R, Q) on the eigenbasis of the features for 1, 2, … components, as many as there are at most.

    In that basis X'X is diagonal, so that a component costs R Q products.
    """
    scale = np.where(solver.y_variance > 0, np.sqrt(solver.y_variance), 1.0)
    cross, scatter = solver.cross / scale, solver.values
    least, bounded = LEAST_CROSS * np.linalg.norm(cross), min(n_components, len(scatter), int(solver.n_rows) - 1)
    directions: list[Numbers] = []
    loadings: list[Numbers] = []
    path = [np.zeros_like(cross)]
    for _ in range(bounded):
        if not np.linalg.norm(cross) > least:
            break
        weights = np.linalg.svd(cross, full_matrices=False)[0][:, 0]
        direction = weights.copy()
        for known, loading in zip(directions, loadings, strict=True):
            direction -= (loading @ weights) * known
        length = float(scatter @ direction**2)
        loading, of_y = scatter * direction / length, cross.T @ direction / length
        cross = cross - length * np.outer(loading, of_y)
        directions.append(direction)
        loadings.append(loading)
        path.append(path[-1] + np.outer(direction, of_y * scale))
    return path[1:] or path
