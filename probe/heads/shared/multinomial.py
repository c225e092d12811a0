"""Multinomial logistic regression over a path of penalties, and the choice among them on validation rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.core.arrays import CHUNK_BYTES, RowStack, RowSubset, row_chunks
from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.core.magnitudes import tell_of_flat_outputs
from probe.heads.linalg.eigen import HOLD_BYTES, read_rows, scale_rows
from probe.heads.linalg.losses import KEEP_BYTES, LOGITS_BYTES
from probe.heads.linalg.multinomial import MultinomialLoss
from probe.heads.linalg.newton import Solution, solve_path, warn_unconverged
from probe.heads.shared.forecast import DOUBLE, EIGEN_PRODUCTS, HALF, SINGLE, Forecast, Shapes
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.logistic import LogisticPath, penalties
from probe.heads.shared.training_memory import check_path_memory, path_bytes

if TYPE_CHECKING:
    from torch import Tensor

PASSES = 60
"""Products of rows and scores that solving for one C takes, about."""


class MultinomialPath(LogisticPath):
    """The numerics of `probe.heads.linear.LinearProbe`, which says what is computed."""

    norm_of_two: ClassVar[float] = 2**0.5
    """Of the gradient by one row of coefficients for two classes, over that by two rows, which were solved for."""

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Solves the path on (X, y) and chooses C on the validation rows."""
        self.check_parameters()
        X, codes = self._check_fit(X, y)
        check_lazy(X)
        self._forget()
        self.Cs_ = penalties(self.Cs)
        if validation is not None:
            X_val, y_val = self._check_validation(*validation)
            codes = self._add_classes(codes, y_val)
            return self._fit_path(X, codes, X_val, self._validation_codes(y_val))
        held_out = hold_out(codes, self.random_state) if self._n_candidates(X) > 1 else np.zeros(len(codes), dtype=bool)
        if not held_out.any():
            return self._fit_path(X, codes, None, None)
        train, spared = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        self._fit_path(RowSubset(X, train), codes[train], RowSubset(X, spared), codes[spared])
        self.selection_["on"] = HELD_OUT
        return self

    def forecast(self, n_rows: int, shapes: Shapes, n_classes: int) -> Forecast:
        (width,) = shapes["pooled"]
        rank, n_Cs = min(n_rows, width), len(penalties(self.Cs))
        rows = n_rows * rank
        solving = self._solving_bytes(n_rows, rank, n_classes) + DOUBLE * width * rank
        rotating = DOUBLE * (6 * width**2 if rank == width else 2 * rows + 4 * rank**2)
        products = float(rows * width + 2 * EIGEN_PRODUCTS * rank**3) + PASSES * (n_Cs + 1) * rows * n_classes
        return Forecast(max(solving, rotating) + 2 * CHUNK_BYTES, products)

    def _solving_bytes(self, n_rows: int, rank: int, n_scores: int) -> int:
        """What the path takes of rotated rows and scores while it is solved."""
        rows, scores = n_rows * rank, SINGLE * n_rows * n_scores
        held = (SINGLE + HALF) * rows * (SINGLE * rows <= HOLD_BYTES)
        kept = scores * (scores <= KEEP_BYTES) + min(3 * scores, LOGITS_BYTES)
        return held + kept + path_bytes(rank, n_scores, len(penalties(self.Cs)), SINGLE)

    def _n_candidates(self, X: Any) -> int:
        """How many there are to choose from."""
        return len(self.Cs_)

    def _check_validation(self, X: Any, y: ArrayLike) -> tuple[Any, np.ndarray[Any, Any]]:
        X, labels = self._check_rows(X, reset=False), plain_array(y, "y").reshape(-1)
        if len(X) != len(labels):
            raise InputError(f"validation has {len(X)} rows and {len(labels)} labels: give one label per row")
        if not len(X):
            raise InputError("validation has no rows, expected at least one: leave validation out to cut some from X")
        check_lazy(X, "the validation rows")
        return X, labels

    def _add_classes(self, codes: IntArray, y_val: np.ndarray[Any, Any]) -> IntArray:
        """Codes under classes that include those of the validation rows, where these are fitted in the end."""
        if not self.refit:
            return codes
        known = self.classes_
        self.classes_ = np.union1d(known, y_val)
        return np.searchsorted(self.classes_, known)[codes].astype(np.int64)

    def _fit_path(self, X: Any, codes: IntArray, X_val: Any, val_codes: IntArray | None) -> Self:
        order = np.argsort(self.Cs_)
        coefs, intercepts, solutions = self._solve(X, codes, self.Cs_[order])
        back = np.argsort(order)
        self.coefs_path_, self.intercepts_path_ = coefs[back], intercepts[back]
        self._keep_steps(solutions, back)
        del coefs, intercepts, solutions  # of many classes as large as all that a refit takes
        self._tell_of_flat_outputs(X, codes)
        best = int(np.abs(np.log(self.Cs_)).argmin()) if val_codes is None else self._choose(X_val, val_codes)
        self.C_ = float(self.Cs_[best])
        self.coef_, self.intercept_ = self.coefs_path_[best], self.intercepts_path_[best]
        if val_codes is not None:
            self._keep_choice()
        if self.refit and val_codes is not None:
            self._refit(RowStack([X, X_val]), np.concatenate([codes, val_codes]))
        return self

    def _tell_of_flat_outputs(self, X: Any, codes: IntArray) -> None:
        """Warns where no C was large enough for features as small as these."""
        if self.scaling != "standard":
            # Heads that only solve with a bare path have no such parameter.
            scaling = "" if type(self) is MultinomialPath else "head.scaling=standard, "
            tell_of_flat_outputs(
                X,
                codes,
                (self.coefs_path_, self.intercepts_path_),
                lambda rows: scale_rows(rows, self.scaling),
                f"C={self.Cs_.max():g}",
                f"{scaling}standardize=true, or larger head.Cs",
            )

    def _keep_steps(self, solutions: list[Solution], places: IntArray) -> None:
        """Keeps what the solver did for each C, of solutions in another order."""
        self.n_iter_ = np.array([s.n_iter for s in solutions])[places]
        self.grad_norms_ = np.array([s.gradient_norm for s in solutions])[places]
        if len(self.classes_) == 2:
            self.grad_norms_ *= self.norm_of_two

    def at(self, candidate: Mapping[str, Any]) -> Self | None:
        """As it was fitted on the rows that the path was solved on, with another C of the path."""
        places = np.flatnonzero(self.Cs_ == candidate["C"])
        if len(places) != 1:
            return None
        found = copy.copy(self)
        found.C_, place = float(self.Cs_[places[0]]), int(places[0])
        found.coef_, found.intercept_ = self.coefs_path_[place], self.intercepts_path_[place]
        return found

    def _solve(
        self, X: Any, codes: IntArray, Cs: FloatArray, start: tuple[FloatArray, FloatArray] | None = None
    ) -> tuple[FloatArray, FloatArray, list[Solution]]:
        """Coefficients, intercepts and solutions for ascending Cs."""
        K = len(self.classes_)
        check_path_memory(
            len(X), X.shape[1], K, len(Cs), 8 if X.dtype == np.float64 else 4, resolve_device(self.device)
        )
        present, loss = self._problem(X, codes)
        features = loss.features
        # The sigmoid form with w = w_1 - w_0 = 2 w_1 has half the penalty of two rows at the same C.
        factor = 0.5 if K == 2 else 1.0
        theta = None
        if start is not None:
            theta = features.rotate(*_two_rows(*start)) if K == 2 else features.rotate(*start)
        solutions = solve_path(loss, (factor * Cs).tolist(), tol=self.tol, max_iter=self.max_iter, start=theta)
        warn_unconverged(solutions, Cs.tolist())
        dtype = np.float64 if X.dtype == np.float64 else np.float32
        coefs = np.zeros((len(Cs), K, X.shape[1]), dtype=dtype)
        intercepts = np.full((len(Cs), K), -np.inf, dtype=dtype)
        for i, solution in enumerate(solutions):
            # What is common to all classes moves no probability: the optimum has none of it, rounding leaves some.
            coefs[i, present], intercepts[i, present] = features.unrotate(solution.theta - solution.theta.mean(0))
        if K == 2:
            coefs, intercepts = np.diff(coefs, axis=1), np.diff(intercepts, axis=1)
        return coefs, intercepts, solutions

    def _problem(self, X: Any, codes: IntArray) -> tuple[IntArray, MultinomialLoss]:
        """The classes that have rows, and the loss over these."""
        present, codes = np.unique(codes, return_inverse=True)
        return present, MultinomialLoss(self._rotated(X), codes, len(present))

    def _summed(self, *counts: FloatArray) -> tuple[FloatArray, ...]:
        """Over all parts of the rows; there is one here."""
        return counts

    def _choose(self, X: Any, codes: IntArray) -> int:
        """Sets `scores_` and `selection_`; the index of the best C."""
        correct, losses = self._validate(X, codes)
        correct, losses, n_rows = self._summed(correct, losses, np.array([float(len(codes))]))
        self.scores_ = correct / n_rows
        best = int(np.lexsort((self.Cs_, losses, -self.scores_))[0])
        searched = [{"C": float(C), "score": float(score)} for C, score in zip(self.Cs_, self.scores_, strict=True)]
        self.selection_ = {"on": "validation", "searched": searched, "chosen": {"C": float(self.Cs_[best])}}
        return best

    def _validate(self, X: Any, codes: IntArray) -> tuple[FloatArray, FloatArray]:
        """(n_Cs,) rows that are right, and sums of cross-entropies over the rows of known classes."""
        device, weights = resolve_device(self.device), self._row_weights(codes)
        weights = None if weights is None else weights.to(device)
        return validate(X, codes, self.coefs_path_, self.intercepts_path_, self.scaling, device, weights)

    def _row_weights(self, codes: IntArray) -> Tensor | None:
        """(N,) what each validation row counts, on average 1; None where all count alike."""
        return None

    def _refit(self, X: Any, codes: IntArray) -> None:
        start = (self.coef_, self.intercept_) if np.isfinite(self.intercept_).all() else None
        coefs, intercepts, _ = self._solve(X, codes, np.array([self.C_]), start)
        self.coef_, self.intercept_ = coefs[0], intercepts[0]


def _two_rows(coef: FloatArray, intercept: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Softmax coefficients (2, D) of a sigmoid's (1, D)."""
    return np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2


def validate(
    X: Any,
    codes: IntArray,
    coefs: FloatArray,
    intercepts: FloatArray,
    scaling: str,
    device: str,
    weights: Tensor | None = None,
) -> tuple[FloatArray, FloatArray]:
    """(P,) rows that P classifiers have right, and sums of cross-entropies over the rows of known classes.

    Both count a row by its weight, so that a row of weight 2 is two rows.

    Args:
        X: (N, D).
        codes: (N,) labels, -1 for a class that is not known.
        coefs: (P, K, D), or (P, 1, D) for two classes.
        intercepts: (P, K) likewise.
        scaling: Of the rows.
        device: Where it is computed.
        weights: (N,) what each row counts, in both.
    """
    import torch
    from torch.nn.functional import cross_entropy, pad

    coef, intercept = (torch.from_numpy(a).to(device) for a in (coefs, intercepts))
    totals = torch.zeros(2, len(coef), dtype=torch.float64, device=device)
    n_bytes = CHUNK_BYTES * X.shape[1] // max(X.shape[1], 2 * coefs.shape[1])
    for rows in row_chunks(X, n_bytes):
        chunk = read_rows(X, rows, coef.dtype, device, scaling)
        labels = torch.from_numpy(codes[rows]).to(device)
        known = labels >= 0
        counted = None if weights is None else weights[rows][known]
        for i in range(len(coef)):
            logits = torch.addmm(intercept[i], chunk, coef[i].T)
            logits = pad(logits, (1, 0)) if logits.shape[1] == 1 else logits
            right = logits.argmax(1) == labels
            totals[0, i] += (right if weights is None else right * weights[rows]).sum()
            loss = cross_entropy(logits[known].double(), labels[known], reduction="sum" if counted is None else "none")
            totals[1, i] += loss if counted is None else loss @ counted
    correct, losses = totals.cpu().numpy()
    return correct, losses
