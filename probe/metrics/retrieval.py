"""How well features find rows of the same class: each test row as a query of all others, or of the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.metric import Metric, Statistic

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class RetrievalScores:
    """Of queries, each (N,); NaN for one that has no row to be found.

    Attributes:
        target: Name of what the labels are.
        labels: Of the queries.
        average_precision: Mean over the rows to be found of the precision down to each.
        map_at_r: The same down to rank R, the number of rows to be found, over R.
        first: Rank of the first row that is found, from 0.
    """

    target: str
    labels: NDArray[Any]
    average_precision: FloatArray
    map_at_r: FloatArray
    first: FloatArray
    logits: None = None

    def __post_init__(self) -> None:
        if np.isnan(self.first).all():
            raise InputError(
                f"none of the {len(self.labels)} test rows has another row of its class to be found: test on more rows"
            )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them, beside the values of the metrics."""
        return {"label": self.labels.astype(np.int64 if self.labels.ndim == 1 else np.uint8)}


def ranks_found(
    found: BoolArray, junk: BoolArray | None = None, *, trapezoid: bool = False
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Average precision, precision at R averaged (MAP@R) and rank of the first hit, (n,) each; NaN without any hit.

    AP = sum over hits j = 1..R of j / (rank of hit j), over R, as scikit-learn's `average_precision_score` has it where
    no scores are equal; MAP@R is the same sum over the hits among the first R (Musgrave, Belongie, Lim, "A Metric
    Learning Reality Check", 2020, arXiv 2003.08505). `trapezoid` averages the precisions before and at each hit, as the
    revisited Oxford and Paris sets are measured (Radenovic et al. 2018, arXiv 1803.11285).

    Args:
        found: (n, G) whether the row at each rank is one to be found.
        junk: (n, G) rows that count as if they were not there.
        trapezoid: Whether to average precisions.
    """
    found = found if junk is None else found & ~junk
    rank = np.broadcast_to(np.arange(found.shape[1]), found.shape) if junk is None else (~junk).cumsum(axis=1) - 1
    hits, n_hits = found.cumsum(axis=1), found.sum(axis=1)
    precision = np.where(found, hits / np.maximum(rank + 1.0, 1.0), 0.0)
    among_r = np.where(rank < n_hits[:, None], precision, 0.0)
    if trapezoid:
        before = np.where(rank > 0, (hits - 1) / np.maximum(rank, 1), 1.0)
        precision = np.where(found, (precision + before) / 2, 0.0)
    n = np.where(n_hits > 0, n_hits, np.nan)
    first = np.where(n_hits > 0, np.take_along_axis(rank, found.argmax(axis=1)[:, None], axis=1)[:, 0], np.nan)
    return precision.sum(axis=1) / n, among_r.sum(axis=1) / n, first


def over_queries(values: FloatArray) -> Statistic:
    """Mean over the queries that have something to find, and its derivative by the weight of each."""
    counted = ~np.isnan(values)
    mean = float(values[counted].mean())
    return mean, np.where(counted, values - mean, 0.0) / counted.sum()


def recall(scores: RetrievalScores, k: int) -> Statistic:
    """Share of queries with a hit among the first k."""
    return over_queries(np.where(np.isnan(scores.first), np.nan, scores.first < k))


SHARED: dict[str, Any] = {
    "targets": ("one_class", "labels"), "reads": "retrieval", "interval": "jackknife", "proportion": True, "unit": "%",
}  # fmt: skip
METRICS = (
    Metric(name="retrieval_map", of_all=lambda scores: over_queries(scores.average_precision), shown=True, **SHARED),
    Metric(name="map_at_r", of_all=lambda scores: over_queries(scores.map_at_r), **SHARED),
    Metric(name="recall_at_1", of_all=lambda scores: recall(scores, 1), **SHARED),
    Metric(name="recall_at_5", of_all=lambda scores: recall(scores, 5), **SHARED),
    Metric(name="recall_at_10", of_all=lambda scores: recall(scores, 10), **SHARED),
)
