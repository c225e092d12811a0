"""k nearest neighbours on numbers: the mean of those of the training rows most like a row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from probe.core.arrays import RowStack, RowSubset, Scaled, row_chunks
from probe.core.base import IntArray
from probe.heads.shared.base import Validation
from probe.heads.shared.neighbours import METRICS, Found, Neighbours
from probe.heads.shared.numbers import NumberHead, Numbers
from probe.heads.shared.votes import check_votes, weights_of

LEAVE_ONE_OUT_ROWS = 10_000
"""Evenly spaced; every row takes part in the means."""
SEARCH_BYTES = 2**25
Candidate = dict[str, Any]


class KNearestNumbers(NumberHead):
    """Predicts sum_i w_i y_i / sum_i w_i over the k nearest training rows, with the weights of `KNearest`.

    The candidate of smallest squared error, each column in units of its variance, wins: on the validation rows, else
    leaving one out. Then the validation rows vote too. With one weight each and k = N it is the mean of the training
    rows. The head that `head=knn` stands for on numbers, with the same parameters; it has no yaml of its own.

    Args:
        ks, metrics, vote, temperatures, refit, device: As of `KNearest`.

    Attributes:
        rows_: (N, D) the rows that vote; a saved head refers to those that lie in the feature store.
        values_: (N, Q) their numbers.
        k_, metric_, temperature_: The candidate chosen.
        centre_, spread_: Mean of the rows, and their root mean square distance from it.
    """

    searches: ClassVar[Mapping[str, str]] = {"k": "ks", "metric": "metrics", "temperature": "temperatures"}
    unordered: ClassVar[tuple[str, ...]] = ("ks", "temperatures")
    rows_: Any
    values_: Numbers

    def __init__(
        self,
        ks: Sequence[int] = (1, 5, 10, 20, 50, 100, 200),
        metrics: Sequence[str] = METRICS,
        vote: str = "softmax",
        temperatures: Sequence[float] = (0.03, 0.07, 0.2, 0.5),
        refit: bool = True,
        device: str = "auto",
    ):
        self.ks = ks
        self.metrics = metrics
        self.vote = vote
        self.temperatures = temperatures
        self.refit = refit
        self.device = device

    def check_parameters(self) -> None:
        check_votes(self)

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,) or (N, Q), and chooses among the candidates."""
        self.check_parameters()
        self.__dict__.pop("selection_", None)
        parts = self._check_parts(X, y, validation)
        self._remember(parts[:1])
        n = len(self.rows_)
        if validation is None:
            own = np.linspace(0, n - 1, min(n, LEAVE_ONE_OUT_ROWS)).astype(np.int64)
            self._choose(self.rows_, self.values_[own], own, "leave-one-out")
            return self
        self._choose(*parts[1], None, "validation")
        if hasattr(self, "selection_"):
            self._keep_choice()
        if self.refit:
            self._remember(parts)
        return self

    def _remember(self, parts: Sequence[tuple[Any, Numbers]]) -> None:
        arrays = [rows for rows, _ in parts]
        self.rows_ = arrays[0] if len(arrays) == 1 else RowStack(arrays)
        self.values_ = np.concatenate([values for _, values in parts])
        found = Neighbours(self.rows_, device=self.device)
        self.centre_, self.spread_ = found.centre, found.spread

    def _candidates(self) -> list[Candidate]:
        """By metric and temperature, each with all numbers of neighbours."""
        temperatures: Sequence[float | None] = self.temperatures if self.vote == "softmax" else [None]
        ks = sorted({int(k) for k in self.ks})
        found = [{"k": k, "metric": m, "temperature": T} for m, T in itertools.product(self.metrics, temperatures)
                 for k in ks]  # fmt: skip
        return [{name: value for name, value in one.items() if value is not None} for one in found]

    def _choose(self, X: Any, Y: Numbers, own: IntArray | None, on: str) -> None:
        """Takes the best candidate for the rows X, or for the rows `own` of X, each without itself."""
        candidates = self._candidates()
        if len(self.rows_) < 2 or (own is not None and (len(candidates) == 1 or len(self.rows_) < 3)):
            return self._take(candidates[(len(candidates) - 1) // 2])
        variance = self.values_.var(axis=0)
        squares, start = np.zeros((len(candidates), Y.shape[1])), 0
        for by_metric in self._search(X, max(self.ks), self.metrics, own):
            n = len(by_metric[self.metrics[0]].rows)
            for i, candidate in enumerate(candidates):
                errors = Y[start : start + n] - self._of(by_metric[candidate["metric"]], candidate)
                squares[i] += (errors**2).sum(axis=0)
            start += n
        scores = -(squares / len(Y) / np.where(variance > 0, variance, 1.0)).mean(axis=1)
        best = int(np.argmax(scores))
        searched = [c | {"score": float(score)} for c, score in zip(candidates, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": candidates[best]}
        self._take(candidates[best])

    def _take(self, candidate: Candidate) -> None:
        self.k_, self.metric_ = candidate["k"], candidate["metric"]
        self.temperature_ = candidate.get("temperature", 1.0)

    def _search(
        self, X: Any, k: int, metrics: Sequence[str], own: IntArray | None = None
    ) -> Iterator[Mapping[str, Found]]:
        index = Neighbours(self.rows_, self.centre_, self.spread_, device=self.device)
        queries = X if own is None else RowSubset(X, own)
        k = min(k, len(self.rows_) - (own is not None))
        for rows in row_chunks(queries, SEARCH_BYTES):
            found = index.nearest(queries[rows], k + (own is not None), metrics)
            yield found if own is None else {name: one.without(own[rows]) for name, one in found.items()}

    def _weights(self, found: Found, candidate: Mapping[str, Any]) -> tuple[IntArray, Numbers]:
        near = Found(found.rows[:, : candidate["k"]], found.nearness[:, : candidate["k"]])
        T = candidate.get("temperature", 1.0)
        weights = weights_of(near, self.vote, candidate["metric"], T, float(self.spread_)).astype(np.float64)
        return near.rows, weights / weights.sum(axis=1, keepdims=True)

    def _of(self, found: Found, candidate: Mapping[str, Any]) -> Numbers:
        rows, weights = self._weights(found, candidate)
        means: Numbers = np.einsum("nk,nkq->nq", weights, self.values_[rows])
        return means

    @property
    def _candidate(self) -> Candidate:
        return {"k": self.k_, "metric": self.metric_, "temperature": self.temperature_}

    def _means(self, X: Any) -> Numbers:
        return np.concatenate([self._of(found[self.metric_], self._candidate)
                               for found in self._search(X, self.k_, [self.metric_])])  # fmt: skip

    def neighbours(self, X: Any) -> tuple[IntArray, Numbers]:
        """What a prediction rests on: (n, k) numbers of the training rows, the nearest first, and their weights."""
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        if hasattr(self, "feature_mean_"):
            X = Scaled(X, self.feature_mean_, self.feature_deviation_)
        searched = self._search(X, self.k_, [self.metric_])
        parts = [self._weights(found[self.metric_], self._candidate) for found in searched]
        rows, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
        return rows, weights

    def __getstate__(self) -> dict[str, Any]:
        """With the rows themselves: a file that they lie in may not be where the copy goes."""
        state = super().__getstate__()
        return state | {"rows_": np.asarray(state["rows_"][:])} if "rows_" in state else state
