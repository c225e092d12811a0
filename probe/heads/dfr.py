"""Last-layer retraining on rows of which every group has equally many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.arrays import RowStack, RowSubset, read_rows
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Head, Validation, check_lazy
from probe.heads.shared.logistic import penalties
from probe.heads.shared.moments import ClassMoments
from probe.heads.shared.multinomial import MultinomialPath

ON = "a third of the training rows, by worst group"


class GroupBalanced(Head):
    """Mean of logistic regressions, each on as many rows of every group as the smallest one has, drawn anew.

    Features are brought to mean 0 and variance 1 over all training rows; each regression minimises
    C sum_i -log softmax(W x_i + b)_{y_i} + 1/2 |W|^2, as `linear` does. A group is one of those given, within a class;
    without any, a class. C is that whose mean regression is right most often in its worst group, of equal ones the
    smallest, on a third of each group that is held out for it, then all rows are drawn from; without groups on the
    validation rows where there are some, and these are drawn from too. Beside groups, validation rows, whose groups
    nobody gives, take no part.

    Source: Kirichenko, Izmailov, Wilson, "Last Layer Re-Training is Sufficient for Robustness to Spurious
    Correlations", 2023, arXiv 2204.02937 (DFR on training rows). Departures: squared in place of absolute weights, an
    unpenalised intercept, any number of classes.

    Args:
        Cs: Inverse penalties to choose from, or how many between 1e-4 and 1e4.
        n_subsets: How many regressions.
        random_state: Of the draws.

    Attributes:
        C_: The chosen C.
        coef_, intercept_: (K, D) and (K,), or one row for two classes, of the features as they come.
        group_count_: (G,) training rows of each group.
    """

    searches: ClassVar[Mapping[str, str]] = {"C": "Cs"}
    unordered: ClassVar[tuple[str, ...]] = ("Cs",)
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    def __init__(
        self,
        Cs: int | Sequence[float] = (0.01, 0.03, 0.07, 0.1, 0.3, 0.7, 1.0),
        n_subsets: int = 10,
        random_state: int | None = 0,
    ):
        self.Cs = Cs
        self.n_subsets = n_subsets
        self.random_state = random_state

    @property
    def balances_groups(self) -> bool:
        return True

    def check_parameters(self) -> None:
        if isinstance(self.n_subsets, bool) or not isinstance(self.n_subsets, int) or self.n_subsets < 1:
            raise InputError(f"n_subsets is {self.n_subsets!r}, expected a whole number from 1 on: set 10, say")
        penalties(self.Cs)

    def fit(
        self, X: Any, y: ArrayLike, *, validation: Validation | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Fits on X (N, D), y (N,) and groups (N,), any numbers or names.

        Raises:
            InputError: A group has one row alone.
        """
        (X, codes), *others = self._check_parts(X, y, validation if groups is None else None)
        self.check_parameters()
        check_lazy(X)
        of_groups, random = _groups(codes, groups, self.classes_), np.random.default_rng(self.random_state)
        Cs, scale = np.sort(penalties(self.Cs)), _scale(X)
        self.C_ = float(Cs[np.abs(np.log(Cs)).argmin()])
        held = _held_out(of_groups, random)
        if others and len(Cs) > 1:
            self._choose(Cs, (X, codes, of_groups), others[0], "validation", scale, random)
        elif len(Cs) > 1 and held.any():
            inside, spared = np.flatnonzero(~held), np.flatnonzero(held)
            train = RowSubset(X, inside), codes[inside], of_groups[inside]
            self._choose(Cs, train, (read_rows(X, spared), codes[spared]), ON, scale, random, of_groups[spared])
        if others:
            X, codes = RowStack([X, others[0][0]]), np.concatenate([codes, others[0][1]])
            of_groups, scale = codes, _scale(X)
        self.group_count_ = np.bincount(of_groups)
        subsets = _subsets(of_groups, self.n_subsets, random)
        coefs, intercepts = self._means(np.array([self.C_]), X, codes, subsets, scale)
        self._keep(coefs[0], intercepts[0], scale)
        return self

    def _choose(
        self, Cs: FloatArray, train: Any, held: Any, on: str, scale: Any, random: Any, groups: IntArray | None = None
    ) -> None:
        """Sets `C_` by the worst of the groups of held rows, or of their classes."""
        (X, codes, of_groups), (rows, truth), scores = train, held, []
        coefs, intercepts = self._means(Cs, X, codes, _subsets(of_groups, self.n_subsets, random), scale)
        of = truth if groups is None else groups
        for coef, intercept in zip(coefs, intercepts, strict=True):
            right = self._keep(coef, intercept, scale)._logits(rows[:]).argmax(axis=1) == truth
            scores.append(float(min(right[of == g].mean() for g in np.unique(of))))
        best = int(np.argmax(scores))
        self.C_ = float(Cs[best])
        searched = [{"C": float(C), "score": score} for C, score in zip(Cs, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": {"C": self.C_}}
        self._keep(coefs[best], intercepts[best], scale)._keep_choice()

    def _means(
        self, Cs: FloatArray, X: Any, codes: IntArray, subsets: Iterator[IntArray], scale: Any
    ) -> tuple[FloatArray, FloatArray]:
        """Coefficients (n_Cs, K, D) and intercepts (n_Cs, K) on scaled features, means over the subsets."""
        (mean, deviation), found = scale, []
        for subset in subsets:
            rows = (read_rows(X, subset).astype(np.float64) - mean) / deviation
            path = MultinomialPath(Cs.tolist(), refit=False, device="cpu")
            path.classes_, path.n_features_in_ = self.classes_, rows.shape[1]
            found.append(path._solve(rows, codes[subset], Cs)[:2])
        coefs, intercepts = zip(*found, strict=True)
        return np.mean(coefs, axis=0), np.mean(intercepts, axis=0)

    def _keep(self, coef: FloatArray, intercept: FloatArray, scale: Any) -> Self:
        """The linear form of the features as they come."""
        mean, deviation = scale
        self.coef_ = coef / deviation
        self.intercept_ = intercept - self.coef_ @ mean
        return self

    def _logits(self, X: Any) -> FloatArray:
        scores = np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_
        return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores


def _scale(X: Any) -> tuple[FloatArray, FloatArray]:
    """Mean and deviation of each feature, 1 for a constant."""
    moments = ClassMoments(1, X.shape[1], second="diagonal").update(X, np.zeros(len(X), dtype=np.int64))
    deviation = np.sqrt(moments.total() / moments.n_rows)
    return moments.mean, np.where(deviation > 0, deviation, 1.0)


def _groups(codes: IntArray, groups: ArrayLike | None, classes: NDArray[Any]) -> IntArray:
    """(N,) numbers of the groups within classes; refuses one of a single row."""
    if groups is None:
        return codes
    given = np.asarray(groups)
    if given.shape != codes.shape:
        raise InputError(f"groups has shape {given.shape} for {len(codes)} rows: give one per row")
    names, numbers = np.unique(given, return_inverse=True)
    pairs, found, counts = np.unique(numbers * len(classes) + codes, return_inverse=True, return_counts=True)
    if (counts == 1).any():
        group, code = divmod(int(pairs[counts == 1][0]), len(classes))
        raise InputError(
            f"group {names[group]} has one row of class {classes[code]}, and balanced rows would hold one of each: "
            "leave it out, or name larger groups"
        )
    return found.astype(np.int64)


def _held_out(groups: IntArray, random: Any) -> NDArray[np.bool_]:
    """(N,) marks a third of each group, never its last row."""
    marks = np.zeros(len(groups), dtype=bool)
    for g in np.unique(groups):
        rows = random.permutation(np.flatnonzero(groups == g))
        marks[rows[: min(max(1, round(len(rows) / 3)), len(rows) - 1)]] = True
    return marks


def _subsets(groups: IntArray, n_subsets: int, random: Any) -> Iterator[IntArray]:
    """Rows of which every group has as many as the smallest."""
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    least = min(map(len, members))
    for _ in range(n_subsets):
        yield np.sort(np.concatenate([random.permutation(rows)[:least] for rows in members]))
