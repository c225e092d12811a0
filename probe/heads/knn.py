"""k nearest neighbours: the training rows most like a row vote for its class."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from probe.core.arrays import CHUNK_BYTES, Scaled
from probe.core.base import IntArray
from probe.core.magnitudes import check_features
from probe.heads.shared.base import AnyHead
from probe.heads.shared.forecast import DOUBLE, SINGLE, Forecast, Shapes
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.nearest_numbers import KNearestNumbers
from probe.heads.shared.neighbours import METRICS, Found
from probe.heads.shared.rows_head import RowsHead
from probe.heads.shared.several_labels import SeveralLabels
from probe.heads.shared.votes import check_votes, logits_of, shares_by_k, weights_of
from probe.metrics.multilabel import mean_average_precision

# Leaving one out of these many rows, evenly spaced, places a candidate well enough; every row takes part in the votes.
LEAVE_ONE_OUT_ROWS = 10_000
SEARCH_VALUES = 2**23
"""Neighbours of all queries that are searched for at once."""
VOTE_VALUES = 2**22
NEIGHBOUR_BYTES, ROOM_BYTES = 64, 40 * 2**20
"""Of one neighbour of a query while it is searched for, and of the products of one thread."""
Candidate = dict[str, Any]


class KNearest(RowsHead):
    """Votes of the k nearest training rows, exact; k, metric and temperature chosen among all from one search.

    The share of class c is p_c = sum of w_i over the neighbours i of class c, over the sum of all w_i, with w_i of
    `vote`: `softmax`, exp(s_i / T) of the cosine s_i, or of -d_i^2 / (2 r^2) of the Euclidean distance d_i, with r the
    root mean square distance of the training rows from their mean; `uniform`, 1; `inverse`, 1 / d_i, or 1 / (1 - s_i).
    Logits are log((k p_c + 1 / K) / (k + 1)), as if one neighbour more voted for all K classes alike, which moves no
    prediction. Of equally near rows the one that came first in training is nearer; of equal votes the class with the
    lower code wins. A k above the number of rows means all of them. A class without rows is never predicted.

    The candidate of best accuracy on the validation rows wins, ties go to the lower log loss, then to the one listed
    first; then these rows vote too. Without validation rows each training row is classified by the others (10,000 of
    them, evenly spaced, where there are more). Where fewer than 200 rows validate, a run chooses on 5 folds of these
    and the training rows instead. `partial_fit` adds rows, and chooses by leaving one out of all that it has seen.

    Of numbers to predict it gives the weighted mean of the neighbours' numbers: see `KNearestNumbers`.

    Source: the weighted vote of Wu, Xiong, Yu, Lin, 2018, arXiv 1805.01978, as in Caron et al., DINO, 2021, arXiv
    2104.14294. Departures: weights are divided by their own sum; temperature and k are chosen and not given.

    Args:
        ks: Numbers of neighbours to choose from.
        metrics: `cosine`, `euclidean`, or both to choose from.
        vote: `softmax`, `uniform` or `inverse`.
        temperatures: T of `softmax` to choose from; the larger, the more alike are the votes of near and far.
        refit: Whether validation rows vote too, once they have served the choice.
        device: Where distances are computed; `auto` is CUDA when there is one.

    Attributes:
        rows_: (N, D) the rows that vote; a saved head refers to those that lie in the feature store.
        codes_: (N,) their class codes.
        class_count_: (K,) rows per class.
        k_, metric_, temperature_: The candidate chosen.
        centre_, spread_: Mean of the rows, and r.
        selection_: What was searched; absent where there was one candidate.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "labels", "number")
    searches: ClassVar[Mapping[str, str]] = {"k": "ks", "metric": "metrics", "temperature": "temperatures"}
    unordered: ClassVar[tuple[str, ...]] = ("ks", "temperatures")
    few_validation_rows: ClassVar[int] = 200
    rows_: Any
    codes_: IntArray
    class_count_: IntArray

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

    def for_target(self, target: str) -> AnyHead:
        kind = {"labels": KNearestLabels, "number": KNearestNumbers}.get(target)
        return self if kind is None else kind(**self.get_params(deep=False))

    def check_parameters(self) -> None:
        check_votes(self)

    def forecast(self, n_rows: int, shapes: Shapes, n_classes: int) -> Forecast:
        import torch

        (width,) = shapes["pooled"]
        k = min(max(self.ks), n_rows)
        queries = min(n_rows, LEAVE_ONE_OUT_ROWS)
        at_once = min(queries, CHUNK_BYTES // (SINGLE * width), SEARCH_VALUES // (k + 1))
        vectors = SINGLE * width * (4 * at_once + 3 * min(n_rows, 8192))
        found = len(self.metrics) * at_once * k * NEIGHBOUR_BYTES
        votes = 4 * DOUBLE * min(VOTE_VALUES, at_once * n_classes)
        judged = 4 * DOUBLE * queries * len(self._candidates())
        rooms = torch.get_num_threads() * ROOM_BYTES
        return Forecast(vectors + found + votes + judged + rooms, float(queries) * n_rows * width)

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), and chooses on the validation rows if given, else leaving one out."""
        self.check_parameters()
        self.__dict__.pop("selection_", None)
        parts = self._parts(X, y, validation)
        self._remember(parts[:1])
        if validation is None:
            return self._settle()
        check_lazy(parts[1][0], "the validation rows")
        self._choose(*parts[1], on="validation")
        if hasattr(self, "selection_"):
            self._keep_choice()
        if self.refit:
            self._remember(parts)
        return self

    @property
    def chooses_in_stream(self) -> bool:
        return len(self._candidates()) > 1

    @property
    def _settings(self) -> list[tuple[str, float | None]]:
        """Metric and temperature of the candidates; what is no softmax has no temperature."""
        temperatures: Sequence[float | None] = self.temperatures if self.vote == "softmax" else [None]
        return list(itertools.product(self.metrics, temperatures))

    def _candidates(self) -> list[Candidate]:
        ks = sorted({int(k) for k in self.ks})
        found = [{"k": k, "metric": metric, "temperature": T} for metric, T in self._settings for k in ks]
        return [{name: value for name, value in one.items() if value is not None} for one in found]

    def _settle(self) -> Self:
        n = len(self.rows_)
        own = np.arange(n) if n <= LEAVE_ONE_OUT_ROWS else np.linspace(0, n - 1, LEAVE_ONE_OUT_ROWS).astype(np.int64)
        self._choose(self.rows_, self.codes_[own], own=own, on="leave-one-out")
        return self

    def _choose(self, X: Any, codes: IntArray, *, on: str, own: IntArray | None = None) -> None:
        """Takes the best candidate for the rows X, or for the rows `own` of X, each without itself."""
        candidates = self._candidates()
        if len(candidates) == 1 or len(self.rows_) == 1:
            return self._take(candidates[(len(candidates) - 1) // 2])
        found: list[list[FloatArray]] = [[] for _ in candidates]
        k_max, start = max(self.ks), 0
        for by_metric in self._search(X, k_max, self.metrics, own):
            n = len(by_metric[self.metrics[0]].rows)
            for part in _slices(n, VOTE_VALUES // len(self.classes_)):
                truth = codes[start + part.start : start + part.stop]
                for i, logits in enumerate(self._all_logits(by_metric, part)):
                    found[i].append(self._judged(logits, truth))
            start += n
        scores, losses = np.array([self._score(np.concatenate(parts), codes) for parts in found]).T
        best = int(np.lexsort((np.arange(len(candidates)), losses, -scores))[0])
        searched = [c | {"score": float(score)} for c, score in zip(candidates, scores, strict=True)]
        self.selection_ = {"on": on, "searched": searched, "chosen": candidates[best]}
        self._take(candidates[best])

    def _take(self, candidate: Candidate) -> None:
        self.k_, self.metric_ = candidate["k"], candidate["metric"]
        self.temperature_ = candidate.get("temperature", 1.0)

    def _all_logits(self, by_metric: Mapping[str, Found], part: slice) -> Iterator[FloatArray]:
        """Logits of the queries of a part by all candidates, in their order."""
        ks = sorted({int(k) for k in self.ks})
        for metric, temperature in self._settings:
            found = Found(by_metric[metric].rows[part], by_metric[metric].nearness[part])
            weights = weights_of(found, self.vote, metric, temperature or 1.0, self.spread_)
            for k, shares in zip(
                ks, shares_by_k(weights, found.rows, self.codes_, len(self.classes_), ks), strict=True
            ):
                yield self._of_shares(shares, min(k, found.rows.shape[1]))

    def _of_shares(self, shares: FloatArray, k: int) -> FloatArray:
        return logits_of(shares, k, self.class_count_, several=False)

    def _judged(self, logits: FloatArray, codes: IntArray) -> FloatArray:
        """What a score is made of: of each row whether it is right, and its log loss."""
        own = logits[np.arange(len(codes)), codes]
        # A class that no training row has costs much, but no infinity.
        return np.column_stack([logits.argmax(axis=1) == codes, -np.maximum(own, -50.0)])

    def _score(self, judged: FloatArray, codes: IntArray) -> tuple[float, float]:
        accuracy, loss = judged.mean(axis=0)
        return float(accuracy), float(loss)

    def neighbours(self, X: Any) -> tuple[IntArray, FloatArray]:
        """What a prediction rests on: (n, k) numbers of the training rows, the nearest first, and their weights.

        Weights of a row sum to 1. Rows are numbered as they were given to `fit`, validation rows after these.
        """
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        if hasattr(self, "feature_mean_"):
            X = Scaled(X, self.feature_mean_, self.feature_deviation_)
        found = [self._weighted(by_metric[self.metric_]) for by_metric in self._search(X, self.k_, [self.metric_])]
        rows, weights = (np.concatenate(column) for column in zip(*found, strict=True))
        return rows, weights

    def _weighted(self, found: Found) -> tuple[IntArray, FloatArray]:
        weights = weights_of(found, self.vote, self.metric_, self.temperature_, self.spread_)
        return found.rows, weights / weights.sum(axis=1, keepdims=True)

    def _logits(self, X: Any) -> FloatArray:
        parts = []
        for by_metric in self._search(X, self.k_, [self.metric_]):
            rows, weights = self._weighted(by_metric[self.metric_])
            k = rows.shape[1]
            for part in _slices(len(rows), VOTE_VALUES // len(self.classes_)):
                (shares,) = shares_by_k(weights[part], rows[part], self.codes_, len(self.classes_), [k])
                parts.append(self._of_shares(shares, k))
        return np.concatenate(parts)

    def at(self, candidate: Mapping[str, Any]) -> Self | None:
        found = clone(self)
        found.__dict__.update(vars(self))
        found._take(dict(candidate))
        return found


class KNearestLabels(SeveralLabels, KNearest):
    """The same where a row has any number of labels: p_c is the share of votes from neighbours that have label c.

    Logits are the log-odds log((k p_c + 1/2) / (k (1 - p_c) + 1/2)): a label is predicted where more than half of the
    votes are for it. The candidate of best mAP wins. `head=knn` stands for it on such data; it has no yaml of its own.
    """

    codes_dtype: ClassVar[Any] = np.uint8
    few_validation_rows: ClassVar[int] = 0

    def _parts(self, X: Any, y: ArrayLike, validation: Validation | None) -> list[tuple[Any, IntArray]]:
        parts = [self._check_fit(X, y)]
        if validation is not None:
            X_val = self._check_rows(validation[0], reset=False)
            parts.append((X_val, self._targets(validation[1], len(X_val))))
        return parts

    def _batch(self, X: Any, y: ArrayLike, classes: ArrayLike | None) -> tuple[Any, IntArray]:
        if not hasattr(self, "rows_"):
            return self._parts(X, y, None)[0]
        rows = self._check_rows(X, reset=False)
        check_features(rows, warn=False)
        return rows, self._targets(y, len(rows))

    def _counts(self, codes: IntArray) -> IntArray:
        counts: IntArray = codes.sum(axis=0)
        return counts

    def _of_shares(self, shares: FloatArray, k: int) -> FloatArray:
        return logits_of(shares, k, self.class_count_, several=True)

    def _judged(self, logits: FloatArray, codes: IntArray) -> FloatArray:
        return logits.astype(np.float32)

    def _score(self, judged: FloatArray, codes: IntArray) -> tuple[float, float]:
        loss = float(np.logaddexp(0, np.where(codes, -judged, judged)).mean())
        return (mean_average_precision(judged, codes)[0] if codes.any() else 0.0), loss


def _slices(n: int, step: int) -> Iterator[slice]:
    """Of n things, at most `step` each."""
    step = max(1, step)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))
