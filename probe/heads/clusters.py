"""A run without a head: how well clusters of the features agree with the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.utils.validation import check_is_fitted

from probe.core.arrays import row_chunks
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.finite import refuse_non_finite
from probe.core.magnitudes import check_features
from probe.core.words import counted
from probe.heads.shared.head import FloatArray, Head, Validation
from probe.heads.shared.neighbours import METRICS
from probe.metrics.clusters import ClusterScores


class Clusters(Head):
    """Clusters the test rows by k-means, compares clusters with classes, and predicts nothing.

    Metrics, each a mean over the draws: `v_measure` (normalised mutual information, with the arithmetic mean), `ami`,
    `ari`, `clustering_accuracy`. Training rows take no part. k-means is scikit-learn's, one start of k-means++ in each
    draw, and all test rows are clustered each time, which they are held in memory for; and two halves of them for
    themselves, which tell how much other rows would have changed. MTEB clusters rows as they are, in mini-batches, in
    its later releases ten samples of them (Muennighoff et al. 2023, arXiv 2210.07316).

    Args:
        n_clusters: How many; None for as many as the test rows have classes.
        metric: `cosine` clusters rows at length 1, `euclidean` rows as they are.
        n_draws: Clusterings from starts of their own.
        batch_size: Rows that move the centres at once; None for all (Lloyd). Mini-batches are for very many rows.
        random_state: Seeds the starts.

    Attributes:
        width_: D.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class",)

    def __init__(
        self,
        n_clusters: int | None = None,
        metric: str = "cosine",
        n_draws: int = 10,
        batch_size: int | None = None,
        random_state: int = 0,
    ):
        self.n_clusters = n_clusters
        self.metric = metric
        self.n_draws = n_draws
        self.batch_size = batch_size
        self.random_state = random_state

    def check_parameters(self) -> None:
        wrong = []
        if self.n_clusters is not None and not _whole(self.n_clusters, 2):
            wrong.append(f"n_clusters is {self.n_clusters!r}, expected null or a whole number from 2")
        if self.metric not in METRICS:
            wrong.append(f"metric is {self.metric!r}, expected {' or '.join(METRICS)}")
        if not _whole(self.n_draws, 1):
            wrong.append(f"n_draws is {self.n_draws!r}, expected a whole number from 1")
        if self.batch_size is not None and not _whole(self.batch_size, 1):
            wrong.append(f"batch_size is {self.batch_size!r}, expected null or a whole number from 1")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Learns the width of the rows."""
        self.check_parameters()
        self.width_ = self._check_rows(X, reset=True).shape[1]
        return self

    def measure(
        self, X: Any, y: NDArray[Any], groups: IntArray | None = None, target: str = "one_class"
    ) -> Mapping[str, ClusterScores]:
        """Clusters of the rows X (n, D) beside their classes y (n,); groups take no part.

        Raises:
            InputError: Rows of one class alone, or fewer distinct rows than clusters.
        """
        check_is_fitted(self)
        n_classes = len(np.unique(y))
        if n_classes < 2:
            raise InputError(
                f"{counted(len(y), 'test row')} of one class alone: clusters agree with classes where there are two, "
                "test on rows of more"
            )
        n_clusters = self.n_clusters or n_classes
        X = self._check_rows(X, reset=False)
        check_features(X, warn=False)
        rows = self._in_memory(X)
        if (distinct := _n_distinct(rows, n_clusters)) < n_clusters:
            fewer = f"set head.n_clusters={distinct}, or " if distinct > 1 else ""
            raise InputError(
                f"{counted(len(rows), 'test row')} with {distinct} distinct features cannot make {n_clusters} "
                f"clusters: {fewer}test on more rows"
            )
        random = np.random.default_rng(self.random_state)
        drawn = [self._clustered(rows, n_clusters, int(start)) for start in random.integers(0, 2**31, self.n_draws)]
        # Two halves at random, clustered for themselves, differ as two draws of other rows would: twice what all do.
        halves = np.full((len(rows), 2 * self.n_draws), -1, dtype=np.int64)
        for column in range(0, halves.shape[1], 2):
            parts = np.array_split(random.permutation(len(rows)), 2)
            for side, (part, start) in enumerate(zip(parts, random.integers(0, 2**31, 2), strict=True)):
                n = min(n_clusters, _n_distinct(rows[part], n_clusters))
                halves[part, column + side] = self._clustered(rows[part], n, int(start))
        return {"clusters": ClusterScores(target, np.asarray(y), np.stack(drawn, axis=1), halves)}

    def _clustered(self, rows: FloatArray, n_clusters: int, start: int) -> IntArray:
        """(n,) cluster of each of the rows."""
        found: IntArray = self._clusterer(n_clusters, start).fit(rows).labels_.astype(np.int64)
        return found

    def _clusterer(self, n_clusters: int, start: int) -> Any:
        if self.batch_size is None:
            return KMeans(n_clusters, n_init=1, random_state=start)
        return MiniBatchKMeans(n_clusters, n_init=1, random_state=start, batch_size=self.batch_size)

    def _in_memory(self, X: Any) -> FloatArray:
        """The rows as k-means takes them, in float32 unless they are doubles."""
        rows = np.empty(X.shape, dtype=np.float64 if X.dtype == np.float64 else np.float32)
        for chunk in row_chunks(X):
            rows[chunk] = X[chunk]
            refuse_non_finite(rows[chunk], chunk.start)
            if self.metric == "cosine":
                lengths = np.linalg.norm(rows[chunk], axis=1, keepdims=True)
                rows[chunk] /= np.where(lengths > 0, lengths, 1)
        return rows

    def _logits(self, X: Any) -> FloatArray:
        raise InputError(
            "head clusters measures features and predicts nothing: choose a head that is fitted, such as knn"
        )


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _n_distinct(rows: FloatArray, enough: int) -> int:
    """Distinct rows, counted as far as there are enough of them."""
    found: set[bytes] = set()
    for row in rows:
        found.add((row + 0.0).tobytes())  # of two zeros one
        if len(found) >= enough:
            break
    return len(found)
