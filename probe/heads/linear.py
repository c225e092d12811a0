"""Logistic regression over a whole path of penalties: the tuned linear probe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from probe.arrays import RowStack, RowSubset, places_in, row_chunks
from probe.base import IntArray
from probe.errors import InputError
from probe.estimator import HELD_OUT, FloatArray, Head, Validation, check_lazy, hold_out, resolve_device
from probe.finite import check_finite
from probe.linalg.eigen import SCALINGS, EigenRows, hold_bytes, read_rows, scale_rows
from probe.linalg.multinomial import MultinomialLoss
from probe.linalg.newton import Solution, solve_path, warn_unconverged


class LinearProbe(Head):
    """Multinomial logistic regression, C chosen on validation rows among a path solved as one problem.

    Minimises C * sum_i -log softmax(W x_i + b)_{y_i} + 1/2 ||W||^2, intercept b unpenalised, as scikit-learn's
    `LogisticRegression` does; with two classes its sigmoid form with one row of coefficients. The same problem in
    torch terms, mean cross-entropy + lambda/2 ||W||^2, has lambda = 1 / (C N): one C is another penalty for another N.

    With `validation=(X_val, y_val)`, C is the one of best accuracy there; ties go to the lower log loss, then to the
    smaller C. The head is then fitted again on both sets of rows, starting from the chosen solution. Without, a
    stratified tenth of the rows stands in for them (at least one row of a class, never its only one). A single C is
    not searched: it is fitted on all rows. Where no row can be spared, because each class has one, C is the one of
    `Cs` nearest to 1, in ratio.

    A class that only validation rows have is known after the refit; on the path its coefficients are 0 and its
    intercept -inf, their limit.

    Args:
        Cs: Inverse penalties, or how many between 1e-4 and 1e4, evenly in log C.
        scaling: `none`; `standard`, features to mean 0 and variance 1 over the fitted rows, folded back into `coef_`
            (the penalty acts on scaled features); `l2`, rows to length 1, at prediction too.
        refit: Whether to fit again on training and validation rows.
        tol: The solver stops where the objective, divided by C and the number of rows, is estimated to be within
            this of its minimum (a difference of mean cross-entropy, in nats), and within a thousandth of it.
        max_iter: Newton steps per C.
        random_state: Seeds the choice of validation rows where none are given.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        Cs_: (n_Cs,) the path, in the order given.
        coefs_path_: (n_Cs, K, D) solutions on the training rows; one row instead of K for two classes.
        intercepts_path_: (n_Cs, K) likewise.
        scores_: (n_Cs,) validation accuracies; absent where nothing was searched without validation rows.
        n_iter_: (n_Cs,) Newton steps.
        grad_norms_: (n_Cs,) Euclidean norms of the objective's gradient. The objective is 1-strongly convex in W:
            with balanced intercepts it is at most grad_norm^2 / 2 above its minimum.
        C_: The chosen C.
        coef_: (K, D), or (1, D) for two classes.
        intercept_: (K,) or (1,).
        selection_: What was searched; absent where nothing was.
    """

    unordered: ClassVar[tuple[str, ...]] = ("Cs",)
    _shared: tuple[Any, EigenRows] | None = None
    """Rows that several problems are made of, and the same rotated once for all."""

    def __init__(
        self,
        Cs: int | Sequence[float] = 10,
        scaling: str = "none",
        refit: bool = True,
        tol: float = 1e-6,
        max_iter: int = 100,
        random_state: int | None = 0,
        device: str = "auto",
    ):
        self.Cs = Cs
        self.scaling = scaling
        self.refit = refit
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> LinearProbe:
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
        held_out = hold_out(codes, self.random_state) if len(self.Cs_) > 1 else np.zeros(len(codes), dtype=bool)
        if not held_out.any():
            return self._fit_path(X, codes, None, None)
        train, spared = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        self._fit_path(RowSubset(X, train), codes[train], RowSubset(X, spared), codes[spared])
        self.selection_["on"] = HELD_OUT
        return self

    def fit_splits(
        self, X: Any, y: ArrayLike, splits: Iterable[tuple[IntArray, IntArray | None]], **extras: Any
    ) -> Iterator[Self]:
        """As of any head; rows that can be held twice in memory are read and rotated once for all splits.

        Each clone is what it would be alone, to the tolerance of the solver. With `scaling=standard` each subset has a
        scale, and so an eigenbasis, of its own; so has each where rows are fewer than features.
        """
        if self.scaling != "standard" and getattr(X, "ndim", 0) == 2 and X.dtype.kind == "f":
            check_finite(X)
            n, width = X.shape
            if n >= width and 2 * n * width * max(4, X.dtype.itemsize) <= hold_bytes(resolve_device(self.device)):
                self._shared = X, self._rotated(X)
        try:
            for head in super().fit_splits(X, y, splits, **extras):
                head._shared = None
                yield head
        finally:
            self._shared = None

    def _for_split(self) -> Self:
        head = clone(self)
        head._shared = self._shared
        return head

    def for_targets(self) -> LinearProbe:
        from probe.heads.one_vs_rest import OneVsRestLinear

        return OneVsRestLinear(**self.get_params(deep=False))

    def check_parameters(self) -> None:
        wrong = []
        if self.scaling not in SCALINGS:
            wrong.append(f"scaling is {self.scaling!r}, expected one of {', '.join(SCALINGS)}")
        if not self.tol > 0:
            wrong.append(f"tol is {self.tol!r}, expected a positive number")
        if not self.max_iter >= 1:
            wrong.append(f"max_iter is {self.max_iter!r}, expected at least 1")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")
        penalties(self.Cs)

    def _forget(self) -> None:
        for name in ("scores_", "selection_"):
            if hasattr(self, name):
                delattr(self, name)

    def _check_validation(self, X: Any, y: ArrayLike) -> tuple[Any, np.ndarray[Any, Any]]:
        X, labels = self._check_rows(X, reset=False), np.asarray(y).reshape(-1)
        if len(X) != len(labels):
            raise InputError(f"validation has {len(X)} rows and {len(labels)} labels: give one label per row")
        if not len(X):
            raise InputError("validation has no rows, expected at least one: give validation=None to cut some from X")
        check_lazy(X, "the validation rows")
        return X, labels

    def _add_classes(self, codes: IntArray, y_val: np.ndarray[Any, Any]) -> IntArray:
        """Codes under classes that include those of the validation rows, where these are fitted in the end."""
        if not self.refit:
            return codes
        known = self.classes_
        self.classes_ = np.union1d(known, y_val)
        return np.searchsorted(self.classes_, known)[codes].astype(np.int64)

    def _fit_path(self, X: Any, codes: IntArray, X_val: Any, val_codes: IntArray | None) -> LinearProbe:
        order = np.argsort(self.Cs_)
        coefs, intercepts, solutions = self._solve(X, codes, self.Cs_[order])
        back = np.argsort(order)
        self.coefs_path_, self.intercepts_path_ = coefs[back], intercepts[back]
        self.n_iter_ = np.array([s.n_iter for s in solutions])[back]
        self.grad_norms_ = np.array([s.gradient_norm for s in solutions])[back]
        if len(self.classes_) == 2:
            self.grad_norms_ *= np.sqrt(2)
        best = int(np.abs(np.log(self.Cs_)).argmin()) if val_codes is None else self._choose(X_val, val_codes)
        self.C_ = float(self.Cs_[best])
        self.coef_, self.intercept_ = self.coefs_path_[best], self.intercepts_path_[best]
        if self.refit and val_codes is not None:
            self._refit(RowStack([X, X_val]), np.concatenate([codes, val_codes]))
        return self

    def _solve(
        self, X: Any, codes: IntArray, Cs: FloatArray, start: tuple[FloatArray, FloatArray] | None = None
    ) -> tuple[FloatArray, FloatArray, list[Solution]]:
        """Coefficients, intercepts and solutions for ascending Cs."""
        K = len(self.classes_)
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

    def _rotated(self, X: Any) -> EigenRows:
        if self._shared is not None:
            every, features = self._shared
            places = places_in(X, every)
            # Fewer rows than directions are a smaller problem in a basis of their own.
            if places is not None and len(places) >= features.rank:
                return features.subset(places)
        return EigenRows(X, scaling=self.scaling, device=resolve_device(self.device))

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
        import torch
        from torch.nn.functional import cross_entropy, pad

        device = resolve_device(self.device)
        coefs, intercepts = (torch.from_numpy(a).to(device) for a in (self.coefs_path_, self.intercepts_path_))
        totals = torch.zeros(2, len(coefs), dtype=torch.float64, device=device)
        for rows in row_chunks(X):
            chunk = read_rows(X, rows, coefs.dtype, device, self.scaling)
            labels = torch.from_numpy(codes[rows]).to(device)
            known = labels >= 0
            for i in range(len(coefs)):
                logits = torch.addmm(intercepts[i], chunk, coefs[i].T)
                logits = pad(logits, (1, 0)) if logits.shape[1] == 1 else logits
                totals[0, i] += (logits.argmax(1) == labels).sum()
                totals[1, i] += cross_entropy(logits[known].double(), labels[known], reduction="sum")
        correct, losses = totals.cpu().numpy()
        return correct, losses

    def _refit(self, X: Any, codes: IntArray) -> None:
        start = (self.coef_, self.intercept_) if np.isfinite(self.intercept_).all() else None
        coefs, intercepts, _ = self._solve(X, codes, np.array([self.C_]), start)
        self.coef_, self.intercept_ = coefs[0], intercepts[0]

    def _linear(self, chunk: FloatArray, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        """(n, K) logits; two classes get 0 and the score."""
        scores = scale_rows(chunk.astype(coef.dtype, copy=False), self.scaling) @ coef.T + intercept
        return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores

    def _logits(self, X: Any) -> FloatArray:
        return self._linear(np.asarray(X), self.coef_, self.intercept_)


def penalties(Cs: int | Sequence[float]) -> FloatArray:
    """The Cs as `LogisticRegressionCV` reads them."""
    if isinstance(Cs, int | np.integer):
        values = np.logspace(-4, 4, int(Cs))
    else:
        values = np.array(Cs, dtype=np.float64).reshape(-1)
    if not len(values) or not (np.isfinite(values) & (values > 0)).all() or len(np.unique(values)) < len(values):
        raise InputError(f"Cs is {Cs!r}, expected a count or distinct positive numbers: change the head's Cs")
    return values


def _two_rows(coef: FloatArray, intercept: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Softmax coefficients (2, D) of a sigmoid's (1, D)."""
    return np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
