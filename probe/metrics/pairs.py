"""How well the similarity of the two rows of each pair tells what is said of the pair.

A pair counts once, in intervals and tests too: its first row has its part, its second one none. Numbers are those that
MTEB reports of similarity and pair classification, but for the thresholds, which the training pairs chose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.correlations import pearson, spearman
from probe.metrics.shared.influences import FISHER, studentized
from probe.metrics.shared.intervals import FloatArray, Interval, between
from probe.metrics.shared.metric import Metric, Statistic
from probe.metrics.shared.orders import auroc_with_derivative, interval_of_order, mean_precision_with_derivative

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class PairScores:
    """Of N rows in P pairs.

    Attributes:
        target: Name of what the labels are.
        labels: (N,) of the rows, those of a pair equal.
        first, second: (P,) places of the rows of each pair.
        similarity: (P,) of the two rows of each pair, higher where they are more alike.
        match: Class of pairs that match; None where labels are numbers.
        thresholds: A pair is taken to match where its similarity is above; the one for F1 and the one for accuracy.
    """

    target: str
    labels: NDArray[Any]
    first: IntArray
    second: IntArray
    similarity: FloatArray
    match: int | None = None
    thresholds: tuple[float, float] | None = None
    logits: None = None

    @property
    def numbers(self) -> FloatArray:
        """(P,) that the pairs have."""
        return np.asarray(self.labels[self.first], dtype=np.float64)

    @property
    def matches(self) -> BoolArray:
        """(P,) which pairs match."""
        found: BoolArray = self.labels[self.first] == self.match
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them, beside the values of the metrics."""
        similarity = np.empty(len(self.labels))
        similarity[self.first] = similarity[self.second] = self.similarity
        return {"label": self.labels, "similarity": similarity}

    def of_rows(self, statistic: Statistic) -> Statistic:
        """A statistic of pairs with its derivative by the weight of each row: that of the pair at the first of them."""
        slopes = np.zeros(len(self.labels))
        slopes[self.first] = statistic[1]
        return statistic[0], slopes


def f1(matches: BoolArray, said: BoolArray) -> Statistic:
    """F1 = 2 TP / (2 TP + FP + FN) of the pairs that match; dF/dw_m = (2 TP_m - F (2 TP_m + FP_m + FN_m)) / (...)."""
    hit, either = 2.0 * (matches & said), matches.astype(np.float64) + said
    value = float(hit.sum() / either.sum())
    return value, (hit - value * either) / either.sum()


def accuracy(matches: BoolArray, said: BoolArray) -> Statistic:
    """Share of pairs that are told right."""
    right = (matches == said).astype(np.float64)
    value = float(right.mean())
    return value, (right - value) / len(right)


def best_thresholds(similarity: FloatArray, matches: BoolArray) -> tuple[float, float]:
    """Those of the highest F1 and of the highest accuracy, halfway between two similarities; of several the highest.

    Infinite where it is best to say that no pair matches, or that all do.

    Args:
        similarity: (P,) of the training pairs.
        matches: (P,) which of them match.
    """
    order = np.argsort(-similarity, kind="stable")
    ordered = similarity[order]
    said = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [len(ordered)]])  # pairs above each threshold
    hits = np.concatenate([[0], np.cumsum(matches[order])])[said]
    between_two = (ordered[said[1:-1] - 1] + ordered[said[1:-1]]) / 2
    thresholds = np.concatenate([[np.inf], between_two, [-np.inf]])
    of_f1 = 2 * hits / (said + matches.sum())
    right = hits + (len(ordered) - matches.sum()) - (said - hits)
    return float(thresholds[of_f1.argmax()]), float(thresholds[right.argmax()])


def _correlation(name: str, statistic: Callable[[FloatArray, FloatArray], Statistic], **more: Any) -> Metric:
    def interval(scores: PairScores, means: FloatArray, seed: int) -> Interval:
        return studentized(*statistic(scores.numbers, scores.similarity), None, FISHER)

    return Metric(
        name=name, reads="pairs", targets=("number",), signed=True, interval=interval,
        of_all=lambda scores: scores.of_rows(statistic(scores.numbers, scores.similarity)), **more,
    )  # fmt: skip


def _of_order(name: str, statistic: Callable[[FloatArray, BoolArray], Statistic], **more: Any) -> Metric:
    def interval(scores: PairScores, means: FloatArray, seed: int) -> Interval:
        found = statistic(scores.similarity, scores.matches)
        return interval_of_order(found, scores.similarity, scores.matches)

    return Metric(
        name=name, reads="pairs", proportion=True, interval=interval,
        of_all=lambda scores: scores.of_rows(statistic(scores.similarity, scores.matches)), **more,
    )  # fmt: skip


def _at_threshold(name: str, statistic: Callable[[BoolArray, BoolArray], Statistic], place: int) -> Metric:
    def of_pairs(scores: PairScores) -> Statistic:
        assert scores.thresholds is not None
        return statistic(scores.matches, scores.similarity > scores.thresholds[place])

    def interval(scores: PairScores, means: FloatArray, seed: int) -> Interval:
        found = of_pairs(scores)
        return between(*found, float(len(found[1])))

    return Metric(
        name=name, reads="pairs", proportion=True, unit="%", interval=interval,
        of_all=lambda scores: scores.of_rows(of_pairs(scores)),
    )  # fmt: skip


def average_precision(similarity: FloatArray, matches: BoolArray) -> Statistic:
    """Of the pairs that match, in the order of their similarity."""
    return mean_precision_with_derivative(similarity, matches, matches)


METRICS = (
    _correlation("pair_spearman", spearman, shown=True),
    _correlation("pair_pearson", pearson),
    _of_order("pair_average_precision", average_precision, shown=True),
    _of_order("pair_auroc", auroc_with_derivative),
    _at_threshold("pair_f1", f1, 0),
    _at_threshold("pair_accuracy", accuracy, 1),
)
