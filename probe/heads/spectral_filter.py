"""Gradient descent, preconditioned descent, ridge and least squares as filters of one eigendecomposition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.core.arrays import row_chunks
from probe.core.errors import InputError
from probe.core.targets.number import columns_of
from probe.heads.shared.base import Validation
from probe.heads.shared.number_moments import LeastSquares
from probe.heads.shared.numbers import LinearNumbers, Numbers, Part
from probe.heads.shared.ridge_numbers import penalties

FILTERS = ("gd", "preconditioned", "ridge", "ols")
ETAS = ("auto", "star")
ROUNDING = 1e-20
"""Squared differences below this share of the squared predictions are none."""


class SpectralFilter(LinearNumbers):
    """W = V g(L) V' X'Y for a filter g of the eigenvalues L of X'X = V L V', rows and numbers centred.

    | filter | g | the learner |
    |---|---|---|
    | `gd` | (1 - (1 - eta L)^k) / L | k steps of gradient descent from 0 on |Y - X W|^2 / 2 |
    | `preconditioned` | N / ((L + alpha) (N + D + 1 + noise)) | one step with the inverse covariance of the rows |
    | `ridge` | 1 / (L + alpha) | least squares with a penalty; of alpha = noise, the posterior mean for W ~ N(0, 1) |
    | `ols` | 1 / L | least squares of minimum norm |

    These are the learners that linear self-attention can carry out on a context of rows: one layer without softmax is
    one step of descent, and on rows and weights N(0, 1) the best of all such layers is the step eta = 1 / (N + D + 1 +
    noise), whose share of the variance that is left is 1 - N eta. `agreement` says which of them a head agrees with.

    Number of steps and penalty are those of the smallest squared error, as a share of the variance of each column, on
    the validation rows, else on a tenth of the training rows spread over the range; then it is fitted again on all.

    Source: E. Akyürek et al., "What learning algorithm is in-context learning? Investigations with linear models",
    2023, arXiv 2211.15661; A. Mahankali, T. Hashimoto and T. Ma, "One Step of Gradient Descent is Provably the Optimal
    In-Context Learner with One Layer of Linear Self-Attention", 2024, arXiv 2307.03576. Departure: they have no
    intercept, which `centre=False` gives.

    Args:
        filter: `gd`, `preconditioned`, `ridge` or `ols`.
        steps: Of `gd`, numbers of steps to choose from.
        eta: Of `gd`, the step size: a number, `auto` for 1 / max L, or `star` for 1 / (N + D + 1 + noise).
        noise: Variance of the noise of the numbers, where that of W x is D.
        alphas: Of `preconditioned` and `ridge`, penalties to choose from, or how many, log-spaced between 1e-8 and 1e8.
        relative: Whether penalties are multiples of the mean squared length of the rows, so that their unit has no say.
        centre: Whether an intercept is fitted.
        random_state: Seeds the choice of validation rows where none are given.
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        steps_, alpha_: What was chosen; absent where the filter has none.
        eta_: The step size.
        values_, vectors_, cross_: (R,) L, (D, R) V and (R, Q) V' X'Y.
        coef_, intercept_: (Q, D) and (Q,).
    """

    searches: ClassVar[Mapping[str, str]] = {"steps": "steps", "alpha": "alphas"}
    unordered: ClassVar[tuple[str, ...]] = ("steps", "alphas")
    steps_: int
    alpha_: float
    eta_: float
    mean_: Numbers
    y_mean_: Numbers

    def __init__(
        self,
        filter: str = "gd",
        steps: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
        eta: float | str = "auto",
        noise: float = 0.0,
        alphas: int | Sequence[float] = 17,
        relative: bool = False,
        centre: bool = True,
        random_state: int | None = 0,
        device: str = "auto",
    ):
        self.filter = filter
        self.steps = steps
        self.eta = eta
        self.noise = noise
        self.alphas = alphas
        self.relative = relative
        self.centre = centre
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,) or (N, Q), and chooses steps or penalty."""
        self.check_parameters()
        for name in ("selection_", "steps_", "alpha_"):
            self.__dict__.pop(name, None)
        parts = self._check_parts(X, y, validation)
        candidates = self._candidates()
        self._take(candidates[(len(candidates) - 1) // 2])
        if judging := self._to_choose_on(parts, len(candidates)):
            self._choose(candidates, *judging)
        self._keep(LeastSquares(parts, self.device, centre=self.centre))
        return self

    def check_parameters(self) -> None:
        wrong = []
        if self.filter not in FILTERS:
            wrong.append(f"filter is {self.filter!r}, expected one of {', '.join(FILTERS)}")
        if not len(self.steps) or not all(step >= 1 and int(step) == step for step in self.steps):
            wrong.append(f"steps is {self.steps!r}, expected whole numbers from 1")
        if not (self.eta in ETAS if isinstance(self.eta, str) else 0 < self.eta < np.inf):
            wrong.append(f"eta is {self.eta!r}, expected {', '.join(ETAS)} or a number above 0")
        if not 0 <= self.noise < np.inf:
            wrong.append(f"noise is {self.noise!r}, expected a variance from 0")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")
        penalties(self.alphas)

    def _candidates(self) -> list[dict[str, Any]]:
        """What is chosen from: numbers of steps, or penalties."""
        if self.filter == "gd":
            return [{"steps": int(k)} for k in sorted(set(self.steps))]
        return [{}] if self.filter == "ols" else [{"alpha": float(a)} for a in sorted(penalties(self.alphas))]

    def _take(self, candidate: Mapping[str, Any]) -> None:
        for name, value in candidate.items():
            setattr(self, f"{name}_", value)

    def _choose(self, candidates: Sequence[dict[str, Any]], train: Part, judged: Part, on: str) -> None:
        solver = LeastSquares([train], self.device, centre=self.centre)
        self._keep(solver)
        left, variance = judged[1] - solver.y_mean, np.where(solver.y_variance > 0, solver.y_variance, 1.0)
        rotated = (np.asarray(judged[0][:], dtype=np.float64) - solver.mean) @ solver.vectors
        scores = []
        for candidate in candidates:
            errors = left - rotated @ (self._filter(self.filter, **candidate)[:, None] * solver.cross)
            scores.append(-float(((errors**2).mean(axis=0) / variance).mean()))
        best = candidates[int(np.argmax(scores))]
        searched = [{**candidate, "score": score} for candidate, score in zip(candidates, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": best}
        self._take(best)
        self._keep(solver)
        self._keep_choice()

    def _keep(self, solver: LeastSquares) -> None:
        self.values_, self.vectors_, self.cross_ = solver.values, solver.vectors, solver.cross
        self.mean_, self.y_mean_, self.n_rows_ = solver.mean, solver.y_mean, int(solver.n_rows)
        self.eta_ = self._eta()
        own = {name: getattr(self, f"{name}_") for name in self.searches if hasattr(self, f"{name}_")}
        self.coef_ = (self._filter(self.filter, **own)[:, None] * self.cross_).T @ self.vectors_.T
        self.intercept_ = self.y_mean_ - self.coef_ @ self.mean_

    def _eta(self) -> float:
        largest = float(self.values_.max(initial=0))
        if self.eta == "auto":
            return 1 / largest if largest else 1.0
        eta = 1 / self._in_theory() if self.eta == "star" else float(self.eta)
        if self.filter == "gd" and max(self.steps) > 1 and eta * largest > 2 * (1 + 1e-12):
            raise InputError(
                f"eta is {eta:.4g}, above 2 / max L = {2 / largest:.4g} of these rows, so that further steps of "
                "gradient descent lead away: set head.eta=auto, or head.steps=[1]"
            )
        return eta

    def _in_theory(self) -> float:
        """N + D + 1 + noise."""
        return self.n_rows_ + len(self.mean_) + 1 + self.noise

    def _filter(self, name: str, steps: int = 1, alpha: float = 0.0) -> Numbers:
        """(R,) g(L) of a learner."""
        if name == "gd":
            moved = self.eta_ * self.values_
            # Of small ones the difference to 1 would be rounding.
            powers = np.expm1(steps * np.log1p(-np.minimum(moved, 0.5)))
            found: Numbers = -np.where(moved < 0.5, powers, (1 - moved) ** steps - 1) / self.values_
            return found
        if self.relative:
            alpha *= float(self.values_.sum()) / self.n_rows_
        if name == "preconditioned":
            return self.n_rows_ / ((self.values_ + alpha) * self._in_theory())
        return 1 / (self.values_ + alpha)

    def learners(self) -> dict[str, Numbers]:
        """The filter (R,) of each learner that `agreement` compares with, by its name: all that parameters list."""
        stable = self.eta_ * self.values_.max(initial=0) <= 2 * (1 + 1e-12)
        found = {"ols": self._filter("ols")}
        for name in ("ridge", "preconditioned"):
            found |= {f"{name}(alpha={a:g})": self._filter(name, alpha=a) for a in sorted(penalties(self.alphas))}
        steps = sorted({1, *(int(k) for k in self.steps)} if stable else {1})
        return found | {f"gd(steps={k})": self._filter("gd", steps=k) for k in steps}

    def agreement(self, X: Any, predictions: ArrayLike | None = None) -> dict[str, float]:
        """How far predictions are from those of each learner: the mean over rows and columns of the squared difference.

        Differences by rounding are 0: descent that has ended is least squares.

        Args:
            X: (N, D) rows that were not fitted on.
            predictions: (N,) or (N, Q) what another head says of them that was fitted on the same rows; by default its
                own.

        Returns:
            By learner, such as `gd(steps=4)` or `ridge(alpha=1)`; the nearest first.
        """
        rows = self._as_fitted(X)
        given = columns_of(self.predict(X) if predictions is None else predictions)
        if given.shape != (len(rows), len(self.intercept_)):
            raise InputError(
                f"predictions have shape {given.shape} for {len(rows)} rows of {len(self.intercept_)} "
                "columns: give a number for each"
            )
        forms = {name: of[:, None] * self.cross_ for name, of in self.learners().items()}
        squares = dict.fromkeys(forms, 0.0)
        for chunk in row_chunks(rows):
            rotated = (np.asarray(rows[chunk], dtype=np.float64) - self.mean_) @ self.vectors_
            for name, form in forms.items():
                squares[name] += float(((given[chunk] - self.y_mean_ - rotated @ form) ** 2).sum())
        rounding = ROUNDING * float(((given - self.y_mean_) ** 2).sum())
        found = {name: square / given.size if square > rounding else 0.0 for name, square in squares.items()}
        return dict(sorted(found.items(), key=lambda item: item[1]))
