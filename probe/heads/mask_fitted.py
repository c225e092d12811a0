"""Between the words of a language model and a linear probe: a penalty pulls the one towards the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.word_head import WordHead, Words

Part = tuple[FloatArray, IntArray]


class MaskFitted(WordHead):
    """Multinomial regression that begins at the words of the classes, C chosen on validation rows.

    Minimises C * sum_i -log softmax(z(t_i) + W t_i + b)_{y_i} + 1/2 (||W||^2 + ||b||^2), with z the logits of
    `label_words` without its sum over the vocabulary: C = 0 is that head, a large C a linear probe on t. Convex; by
    L-BFGS, each C from the solution of the one before. The best accuracy wins, then the lower log loss, then the
    smaller C.

    Source: Clavie, Cooper, Warner, "It's All in The [MASK]", 2025, arXiv 2502.03793. Departure: nothing but the map
    from the cached state to the classes is fitted.

    Args:
        words, temperature, class_features: As of `label_words`.
        Cs: To choose from; 0 is the words alone.
        refit: Whether to fit again on training and validation rows.
        tol: Largest entry of the gradient, over C and the number of rows, at which the solver stops.
        max_iter: Steps per C.
        random_state: Seeds the choice of validation rows where none are given.

    Attributes:
        coef_: (K, D) W.
        intercept_: (K,) b.
        C_: The chosen C.
    """

    searches: ClassVar[Mapping[str, str]] = {"C": "Cs"}
    unordered: ClassVar[tuple[str, ...]] = ("Cs",)
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    C_: float

    def __init__(
        self,
        words: Words | None = None,
        Cs: Sequence[float] = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0),
        temperature: float | None = None,
        class_features: ArrayLike | None = None,
        refit: bool = True,
        tol: float = 1e-6,
        max_iter: int = 500,
        random_state: int | None = 0,
    ):
        self.words = words
        self.Cs = Cs
        self.temperature = temperature
        self.class_features = class_features
        self.refit = refit
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def check_parameters(self) -> None:
        super().check_parameters()
        if not len(self.Cs) or not all(0 <= C < np.inf for C in self.Cs):
            raise InputError(f"Cs is {self.Cs!r}, expected numbers from 0: change the head's Cs")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on states (N, D) and class codes (N,)."""
        self.check_parameters()
        self.__dict__.pop("selection_", None)
        if validation is not None and not len(np.asarray(validation[1])):
            validation = None
        parts = [(rows, codes) for rows, codes in self._check_parts(X, y, validation)]
        for rows, _ in parts:
            check_lazy(rows)
        arrays = [(np.asarray(rows[:], dtype=np.float64), codes) for rows, codes in parts]
        self._read_words(arrays[0][0].shape[1])
        Cs, on = sorted({float(C) for C in self.Cs}), "validation"
        train, held = arrays[0], arrays[1] if len(arrays) > 1 else None
        if held is None and len(Cs) > 1:
            marks, on = hold_out(train[1], self.random_state), HELD_OUT
            if marks.any():
                train, held = (train[0][~marks], train[1][~marks]), (train[0][marks], train[1][marks])
        self.C_ = Cs[len(Cs) // 2]
        if len(Cs) > 1 and held is None:
            self.selection_ = {"on": "nothing, for want of rows", "searched": [], "chosen": {"C": self.C_}}
        elif len(Cs) > 1 and held is not None:
            self._choose(train, held, Cs, on)
            if not self.refit and on == "validation":
                return self
        every = arrays if self.refit else arrays[:1]
        whole = np.concatenate([rows for rows, _ in every]), np.concatenate([codes for _, codes in every])
        for _ in self._path(whole, [self.C_]):
            pass
        return self

    def _choose(self, train: Part, held: Part, Cs: Sequence[float], on: str) -> None:
        scores, fitted = [], []
        for C in self._path(train, Cs):
            log_p = log_softmax(self._logits(held[0]), axis=1)
            loss = -float(log_p[np.arange(len(held[1])), held[1]].sum())
            scores.append((float((log_p.argmax(axis=1) == held[1]).mean()), -loss, -C))
            fitted.append((self.coef_, self.intercept_))
        best = max(range(len(scores)), key=scores.__getitem__)
        (self.coef_, self.intercept_), self.C_ = fitted[best], Cs[best]
        searched = [{"C": C, "score": score[0]} for C, score in zip(Cs, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": {"C": self.C_}}
        if on == "validation":
            self._keep_choice()

    def _path(self, part: Part, Cs: Sequence[float]) -> Iterator[float]:
        """Yields each C, in ascending order, when the fitted attributes are its solution."""
        X, codes = part
        start, beside = self._of_words(X), np.column_stack([X, np.ones(len(X))])
        shape, own = (start.shape[1], beside.shape[1]), np.eye(start.shape[1])[codes]
        theta = np.zeros(shape)

        def objective(flat: FloatArray, C: float) -> tuple[float, FloatArray]:
            W = flat.reshape(shape)
            log_p = log_softmax(start + beside @ W.T, axis=1)
            gradient = (np.exp(log_p) - own).T @ beside + W / C
            # Over C and the number of rows, so that one tolerance fits all.
            value = -log_p[np.arange(len(codes)), codes].sum() + 0.5 * np.square(W).sum() / C
            return value / len(codes), gradient.ravel() / len(codes)

        for C in Cs:
            if C > 0:
                options = {"maxiter": self.max_iter, "gtol": self.tol, "ftol": 0.0}
                found = minimize(objective, theta.ravel(), (C,), "L-BFGS-B", jac=True, options=options)
                theta = found.x.reshape(shape)
            self.coef_, self.intercept_ = theta[:, :-1].copy(), theta[:, -1].copy()
            yield C

    def _logits(self, X: Any) -> FloatArray:
        states = np.asarray(X, dtype=np.float64)
        return self._of_words(states) + states @ self.coef_.T + self.intercept_
