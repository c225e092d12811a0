"""What neighbours say of a query: the weight of each, and the sum of what they vote for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.targets.labels import has_columns
from probe.heads.shared.neighbours import METRICS, Found

FloatArray = NDArray[np.floating[Any]]
VOTES = ("softmax", "uniform", "inverse")


def check_votes(head: Any) -> None:
    """Refuses parameters of a head of neighbours with which none could vote."""
    wrong = []
    if not len(head.ks) or not all(isinstance(k, int | np.integer) and k >= 1 for k in head.ks):
        wrong.append(f"ks is {head.ks!r}, expected whole numbers from 1 on")
    if not len(head.metrics) or not set(head.metrics) <= set(METRICS):
        wrong.append(f"metrics is {head.metrics!r}, expected some of {', '.join(METRICS)}")
    if head.vote not in VOTES:
        wrong.append(f"vote is {head.vote!r}, expected one of {', '.join(VOTES)}")
    if not len(head.temperatures) or not all(0 < t < np.inf for t in head.temperatures):
        wrong.append(f"temperatures is {head.temperatures!r}, expected numbers above 0")
    if wrong:
        raise InputError("; ".join(wrong) + ": change the parameters of the head")


def weights_of(found: Found, vote: str, metric: str, temperature: float, spread: float) -> FloatArray:
    """(n, k) weight of each neighbour before these are divided by their sum; that of the nearest is 1.

    `softmax`: exp(s / T), s the cosine (DINO: Caron et al. 2021, arXiv 2104.14294), or -d^2 / 2 r^2 of the Euclidean
    distance d with r the root mean square distance of the rows from their mean: of unit rows the cosine too, but for
    the unit. `inverse`: 1 / d, for cosines 1 / (1 - s); neighbours at distance 0, where there are some, vote alone.
    """
    nearness = found.nearness.astype(np.float64)
    if vote == "uniform":
        return np.where(np.isnan(nearness), np.nan, 1.0)
    if vote == "softmax":
        if metric == "euclidean":
            nearness = -(nearness**2) / (2 * spread**2 if spread > 0 else 1.0)
        return np.exp((nearness - nearness[:, :1]) / temperature)
    distances = np.maximum(-nearness if metric == "euclidean" else 1 - nearness, 0.0)
    nearest = distances[:, :1]
    with np.errstate(invalid="ignore"):  # 0 / 0, of neighbours at no distance
        shares = nearest / distances
    return np.where(nearest == 0, distances == 0, shares).astype(np.float64)


def tally(weights: FloatArray, rows: IntArray, codes: IntArray, n_classes: int) -> FloatArray:
    """(n, K) sum of the weights (n, k) of the neighbours that have each class, or each label.

    Args:
        weights: Of the neighbours.
        rows: (n, k) their numbers.
        codes: (N,) classes of all rows, or (N, K) zeros and ones.
        n_classes: K.
    """
    if has_columns(codes):
        votes = np.zeros((len(rows), n_classes))
        for weight, row in zip(weights.T, rows.T, strict=True):
            votes += weight[:, None] * codes[row]
        return votes
    places = np.arange(len(rows))[:, None] * n_classes + codes[rows]
    counts = np.bincount(places.ravel(), weights=weights.ravel(), minlength=len(rows) * n_classes)
    return counts.reshape(len(rows), n_classes).astype(np.float64)


def shares_by_k(
    weights: FloatArray, rows: IntArray, codes: IntArray, n_classes: int, ks: Sequence[int]
) -> Iterator[FloatArray]:
    """Yields for each k (in rising order) the (n, K) shares of the votes of the nearest k neighbours."""
    votes, total, start = np.zeros((len(rows), n_classes)), np.zeros((len(rows), 1)), 0
    for k in ks:
        votes = votes + tally(weights[:, start:k], rows[:, start:k], codes, n_classes)
        total = total + weights[:, start:k].sum(axis=1, keepdims=True)
        start = max(start, min(k, rows.shape[1]))
        yield votes / total


def logits_of(shares: FloatArray, k: int, class_count: Any, several: bool) -> FloatArray:
    """(n, K) logits of shares of votes: as if one neighbour more voted for all classes alike.

    log((k p_c + 1 / K) / (k + 1)) of one class per row, -inf of a class that has no row; with several labels the
    log-odds log((k p_c + 1/2) / (k (1 - p_c) + 1/2)). Neither moves a prediction.
    """
    if several:
        return np.log((k * shares + 0.5) / (k * (1 - shares) + 0.5))
    there = np.asarray(class_count) > 0
    with np.errstate(divide="ignore"):
        return np.log(np.where(there, (k * shares + 1 / there.sum()) / (k + 1), 0.0))
