"""Weighted counts of words and a linear classifier: what is known of a text without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.ragged import Ragged
from probe.heads.shared.head import FloatArray, Head, Validation
from probe.heads.shared.held_out import HELD_OUT, hold_out
from probe.heads.shared.logistic import penalties
from probe.heads.shared.token_rows import TokenRows, counts_of, places_of, vocabulary_of

Part = tuple[Ragged, IntArray]


class TfidfLinear(Head):
    """Multinomial logistic regression on tf-idf of token ids; C by the validation rows, then fitted on all.

    tf-idf of token t in row i: n_it idf_t, rows brought to length 1, with idf_t = log((1 + n) / (1 + n_t)) + 1 for n
    rows of which n_t hold t, as scikit-learn's `TfidfTransformer` has it. Vocabulary and idf are those of the rows that
    are fitted on; other tokens count for nothing. The fit is scikit-learn's `LogisticRegression`, sparse, each C from
    the solution of the one before; the best accuracy wins, then the lower log loss, then the smaller C.

    Where fewer than 200 rows validate, a run chooses C on 5 folds of these and the training rows instead.

    Args:
        Cs: Inverse penalties, or how many between 1e-4 and 1e4, evenly in log C.
        refit: Whether to fit again on training and validation rows.
        tol, max_iter: Of `LogisticRegression`.
        random_state: Seeds the choice of validation rows where none are given.

    Attributes:
        vocabulary_: (V,) ids of the tokens.
        words_: The words themselves; of a run alone, which knows them.
        idf_: (V,) their weights.
        coef_: (K, V), or (1, V) for two classes.
        intercept_: (K,) or (1,).
        C_: The chosen C.
    """

    consumes: ClassVar[tuple[str, ...]] = ("token_ids",)
    control: ClassVar[str] = "raw_input"
    searches: ClassVar[Mapping[str, str]] = {"C": "Cs"}
    unordered: ClassVar[tuple[str, ...]] = ("Cs",)
    few_validation_rows: ClassVar[int] = 200
    vocabulary_: IntArray
    idf_: NDArray[np.float64]
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    C_: float

    def __init__(
        self,
        Cs: int | Sequence[float] = (0.1, 1, 10, 100, 1000),
        refit: bool = True,
        tol: float = 1e-4,
        max_iter: int = 1000,
        random_state: int | None = 0,
    ):
        self.Cs = Cs
        self.refit = refit
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on ids, `RaggedRows` or an array (N, T), and labels (N,)."""
        self.check_parameters()
        self.__dict__.pop("selection_", None)
        if validation is not None and not len(np.asarray(validation[1])):
            validation = None
        parts = self._check_parts(X, y, validation)
        train, *held = ((rows[:], codes) for rows, codes in parts)
        Cs, on = np.sort(penalties(self.Cs)), "validation"
        if not held and len(Cs) > 1:
            marks, on = hold_out(train[1], self.random_state), HELD_OUT
            train, held = _some(train, ~marks), [_some(train, marks)] if marks.any() else []
        if held and len(Cs) > 1:
            self._choose(train, held[0], Cs, on)
            if not self.refit and on == "validation":
                return self
        else:
            self.C_ = float(Cs[len(Cs) // 2])
            if len(Cs) > 1:
                self.selection_ = {"on": "nothing, for want of rows", "searched": [], "chosen": {"C": self.C_}}
        every = [(rows[:], codes) for rows, codes in (parts if self.refit else parts[:1])]
        for _ in self._fit_path(_joined(every), [self.C_]):
            pass
        return self

    def check_parameters(self) -> None:
        penalties(self.Cs)
        if not self.tol > 0 or not self.max_iter >= 1:
            raise InputError(
                f"tol is {self.tol!r} and max_iter {self.max_iter!r}, expected a positive number and one from 1: "
                "change the parameters of the head"
            )

    def _choose(self, train: Part, held: Part, Cs: FloatArray, on: str) -> None:
        scores, fitted = [], []
        for C in self._fit_path(train, Cs):
            log_p = log_softmax(self._logits(held[0]), axis=1)
            known = held[1] >= 0
            loss = -log_p[known, held[1][known]].sum()
            scores.append((float((log_p.argmax(axis=1) == held[1]).mean()), -float(loss), -C))
            fitted.append((self.coef_, self.intercept_))
        best = max(range(len(scores)), key=scores.__getitem__)
        self.coef_, self.intercept_ = fitted[best]
        self.C_ = float(Cs[best])
        searched = [{"C": float(C), "score": score[0]} for C, score in zip(Cs, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": {"C": self.C_}}
        if on == "validation":
            self._keep_choice()

    def _fit_path(self, part: Part, Cs: Sequence[float] | FloatArray) -> Iterator[float]:
        """Yields each C, in ascending order, when the fitted attributes are its solution."""
        tokens, codes = part
        self.vocabulary_ = vocabulary_of(tokens)
        self.__dict__.pop("words_", None)
        counts = counts_of(tokens, self.vocabulary_)
        weighting = TfidfTransformer().fit(counts)
        self.idf_ = weighting.idf_
        X, seen = weighting.transform(counts), np.unique(codes)
        model = LogisticRegression(tol=self.tol, max_iter=self.max_iter, warm_start=True)
        for C in Cs:
            model.set_params(C=float(C)).fit(X, codes)
            self.coef_, self.intercept_ = model.coef_.copy(), model.intercept_.copy()
            if len(seen) < len(self.classes_):  # the others have been seen by nobody yet
                coef, intercept = both_classes(self.coef_, self.intercept_)
                self.coef_ = np.zeros((len(self.classes_), coef.shape[1]))
                self.intercept_ = np.full(len(self.classes_), -np.inf)
                self.coef_[seen], self.intercept_[seen] = coef, intercept
            yield C

    def explain(self, X: Any) -> Ragged:
        """What every token of every row adds to the logits, whose mean over classes is taken for 0: (M, K) of all.

        The intercepts come on top.
        """
        tokens = self._check_rows(X, reset=False)[:]
        places, known = places_of(tokens, self.vocabulary_)
        weighted = counts_of(tokens, self.vocabulary_) @ sparse.diags_array(self.idf_)
        lengths = np.sqrt(np.asarray(weighted.power(2).sum(axis=1)).ravel())
        coef, _ = both_classes(self.coef_, self.intercept_)
        weights = np.where(known, self.idf_[places], 0.0) / np.repeat(np.where(lengths > 0, lengths, 1), tokens.lengths)
        return Ragged((coef - coef.mean(axis=0))[:, places].T * weights[:, None], tokens.lengths)

    def _logits(self, X: Any) -> FloatArray:
        weighted = counts_of(X, self.vocabulary_) @ sparse.diags_array(self.idf_)
        coef, intercept = both_classes(self.coef_, self.intercept_)
        scores: FloatArray = normalize(weighted) @ coef.T + intercept
        return scores

    def _check_rows(self, X: Any, *, reset: bool) -> TokenRows:
        if reset:
            self._forget_calibration()
        return TokenRows(X)


def both_classes(coef: FloatArray, intercept: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A row for each class; of two, scikit-learn keeps the difference alone."""
    if len(coef) > 1:
        return coef, intercept
    return np.vstack([np.zeros_like(coef), coef]), np.append(0.0, intercept)


def _some(part: Part, marks: NDArray[np.bool_]) -> Part:
    tokens, codes = part
    return Ragged(tokens.values[np.repeat(marks, tokens.lengths)], tokens.lengths[marks]), codes[marks]


def _joined(parts: Sequence[Part]) -> Part:
    values, lengths = (np.concatenate([getattr(t, name) for t, _ in parts]) for name in ("values", "lengths"))
    return Ragged(values, lengths), np.concatenate([codes for _, codes in parts])
