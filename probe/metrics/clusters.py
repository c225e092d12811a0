"""How well clusters of rows agree with their classes, whatever the clusters are called.

Each is a function of the table of classes and clusters, n_ck rows of class c in cluster k, and the mean of it over the
draws. In what follows p_ck = n_ck / N, a_c = sum over k of p_ck, b_k = sum over c of p_ck.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtri, stdtrit
from sklearn.metrics.cluster import expected_mutual_information

from probe.core.base import IntArray
from probe.metrics.shared.intervals import QUANTILES, FloatArray, Interval, between, normal_half
from probe.metrics.shared.metric import Metric, Statistic

OfCells = tuple[float, FloatArray]
"""A function of the table, and N times its derivative by the weight of a row of each cell, (C, K)."""


@dataclass(frozen=True)
class ClusterScores:
    """Of rows that were clustered in several draws.

    Attributes:
        target: Name of what the labels are.
        labels: (N,) classes.
        clusters: (N, n_draws) numbers of their clusters, in each draw.
        halves: (N, 2 P) the same of P pairs of halves of the rows that were clustered for themselves, side by side; -1
            for rows of the other half.
    """

    target: str
    labels: IntArray
    clusters: IntArray
    halves: IntArray
    logits: None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them, beside the values of the metrics."""
        return {"label": self.labels.astype(np.int64), "cluster": self.clusters.astype(np.int32)}

    @cached_property
    def measured(self) -> Mapping[str, tuple[Statistic, float]]:
        """By metric: its mean over the draws with the derivative by row weight, and its variance.

        The derivative is that of clusters that stay as they are, brought to the length of the variance, in which they
        do not: so a comparison of two runs goes by it too.
        """
        parts: dict[str, list[Statistic]] = {name: [] for name in MEASURES}
        for drawn in self.clusters.T:
            classes, clusters, table = _counted(self.labels, drawn)
            for name, measure in MEASURES.items():
                value, cells = measure(table)
                parts[name].append((value, cells[classes, clusters] / len(classes)))
        return {name: _over_draws(of_draws, self._apart[name]) for name, of_draws in parts.items()}

    @cached_property
    def _apart(self) -> Mapping[str, FloatArray]:
        """By metric, (P,) how far the halves of each pair are apart that have two classes and clusters each."""
        found: dict[str, list[float]] = {name: [] for name in MEASURES}
        for pair in self.halves.T.reshape(-1, 2, len(self.labels)):
            tables = [_counted(self.labels[half >= 0], half[half >= 0])[2] for half in pair]
            if min(*tables[0].shape, *tables[1].shape) > 1:
                for name, measure in MEASURES.items():
                    found[name].append(measure(tables[0])[0] - measure(tables[1])[0])
        return {name: np.array(values) for name, values in found.items()}


def _counted(labels: IntArray, drawn: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Classes and clusters, numbered from 0, and their table."""
    classes, clusters = (np.unique(of, return_inverse=True)[1] for of in (labels, drawn))
    return classes, clusters, table_of(classes, clusters)


def _over_draws(parts: list[Statistic], apart: FloatArray) -> tuple[Statistic, float]:
    """The mean of the draws, and its variance: for other rows, and for other starts.

    Two halves differ by the variance of n / 2 rows twice, so a fourth of their square is that of all n, with clusters
    that move with the rows and with half of what one start adds. What clusters that stay give is the least that is
    taken. Both parts are widened to Student's quantile for as few values.
    """
    values, slopes = np.array([value for value, _ in parts]), np.mean([slopes for _, slopes in parts], axis=0)
    stay = float((slopes**2).sum())
    move = float((apart**2).mean()) / 4 * _widening(len(apart)) if len(apart) else 0.0
    starts = float(values.var(ddof=1)) / len(values) * _widening(len(values) - 1) if len(values) > 1 else 0.0
    variance = max(stay, move) + starts
    return (float(values.mean()), slopes * np.sqrt(variance / stay) if stay > 0 else slopes), variance


def _widening(freedom: int) -> float:
    """Of a variance that is known by so many values."""
    return float(stdtrit(freedom, QUANTILES[1]) / ndtri(QUANTILES[1])) ** 2


def table_of(classes: IntArray, clusters: IntArray) -> FloatArray:
    """(C, K) rows of each class 0..C-1 in each cluster 0..K-1."""
    shape = int(classes.max()) + 1, int(clusters.max()) + 1
    return np.bincount(classes * shape[1] + clusters, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)


def v_measure(table: FloatArray) -> OfCells:
    """I / H, the information that clusters and classes share over the mean of their entropies.

    The harmonic mean of homogeneity and completeness (Rosenberg and Hirschberg, "V-Measure", 2007), which is normalised
    mutual information with the arithmetic mean.
    """
    return _adjusted(table, 0.0)


def ami(table: FloatArray) -> OfCells:
    """(I - E) / (H - E), E what chance shares between clusters and classes of these sizes (Vinh, Epps, Bailey 2010).

    E is held fixed in the derivative: it is of the order of the cells over N, and so is what its own would add.
    """
    return _adjusted(table, float(expected_mutual_information(table.astype(np.int64), int(table.sum()))))


def _adjusted(table: FloatArray, by_chance: float) -> OfCells:
    """From I = sum of p_ck log(p_ck / (a_c b_k)) and H = -(sum of a_c log a_c + sum of b_k log b_k) / 2."""
    p = table / table.sum()
    a, b = p.sum(axis=1, keepdims=True), p.sum(axis=0, keepdims=True)
    shared = np.log(np.where(p > 0, p, a * b) / (a * b))
    surprise = -(np.log(a) + np.log(b)) / 2
    information, entropy = float((p * shared).sum()), float((p * surprise).sum())
    above, room = information - by_chance, entropy - by_chance
    return above / room, (shared - information - above / room * (surprise - entropy)) / room


def ari(table: FloatArray) -> OfCells:
    """(S - A B / T) / ((A + B) / 2 - A B / T); of T pairs of rows A are of one class, B of one cluster, S of both.

    Source: Hubert and Arabie, "Comparing partitions", 1985.
    """
    sizes = table, table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True), table.sum(keepdims=True)
    S, A, B, T = (float((n * (n - 1)).sum()) / 2 for n in sizes)
    s, a, b, t = (n - 1 for n in sizes)
    chance, chance_slope = A * B / T, (a * B + A * b - A * B / T * t) / T
    value = (S - chance) / ((A + B) / 2 - chance)
    slopes = (s - chance_slope - value * ((a + b) / 2 - chance_slope)) / ((A + B) / 2 - chance)
    return value, slopes * float(table.sum())


def clustering_accuracy(table: FloatArray) -> OfCells:
    """Share of rows that are right where each cluster is given a class of its own, to the most rows (Kuhn 1955)."""
    right = np.zeros(table.shape)
    right[linear_sum_assignment(table, maximize=True)] = 1
    value = float((table * right).sum() / table.sum())
    return value, right - value


MEASURES: Mapping[str, Callable[[FloatArray], OfCells]] = {
    "v_measure": v_measure, "ami": ami, "ari": ari, "clustering_accuracy": clustering_accuracy,
}  # fmt: skip


def _interval(name: str, n_each: float, signed: bool) -> Callable[[ClusterScores, FloatArray, int], Interval]:
    """For new rows, clustered anew from new starts.

    Wilson's form, which has a width at 1 too, where no row differs; of what may be below 0, from 1/2 on.

    Args:
        name: Of the metric.
        n_each: Share of the rows that counts where none is wrong: one row out of place costs `ari` two.
        signed: Whether it may be below 0.
    """

    def interval(scores: ClusterScores, means: FloatArray, seed: int) -> Interval:
        (value, _), variance = scores.measured[name]
        error = np.sqrt([variance])
        half = normal_half(error)
        if value < 0.5 and signed:
            return Interval(value, value - half, value + half)
        found = between(value, error, n_each * len(scores.labels))
        # Where no draw puts a row wrong, halves may have told of starts that do.
        return Interval(value, min(found.low, max(0.0, value - half)), found.high)

    return interval


def _metric(name: str, n_each: float = 1.0, **more: Any) -> Metric:
    return Metric(name=name, reads="clusters", of_all=lambda scores: scores.measured[name][0],
                  interval=_interval(name, n_each, bool(more.get("signed"))), **more)  # fmt: skip


METRICS = (
    _metric("v_measure", shown=True, proportion=True),
    _metric("ami", signed=True),
    _metric("ari", 0.5, signed=True),
    _metric("clustering_accuracy", proportion=True, unit="%"),
)
