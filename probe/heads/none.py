"""A run without a head: how well the features themselves find rows of the same class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.core.magnitudes import check_features
from probe.core.targets.labels import has_columns
from probe.heads.shared.head import FloatArray, Head, Validation, check_lazy
from probe.heads.shared.neighbours import METRICS, Neighbours
from probe.heads.shared.whitening import Whitened, Whitening
from probe.metrics.retrieval import RetrievalScores, ranks_found

CHOICES = {"gallery": ("test", "train"), "metric": METRICS, "junk": ("none", "group")}


class NoHead(Head):
    """Measures features by retrieval and predicts nothing: each test row is a query, the nearest rows its answer.

    Rows of the query's class are to be found (with several labels per row those that share one); the query itself is
    left out where it stands in the gallery. Of equally near rows that with the lower number comes first. Metrics:
    `retrieval_map`, `map_at_r`, `recall_at_1`, `recall_at_5`, `recall_at_10`, over the queries that have something to
    find, with intervals for new queries.

    Labels of training rows take no part, and their features only with `whiten` or `gallery=train`.

    Args:
        gallery: Where rows are looked for: among the other `test` rows, or among the `train` rows.
        metric: `cosine` or `euclidean`.
        whiten: How many principal directions of the training rows to bring to unit variance first; 0: none.
        power: Of the components after whitening, with their sign.
        junk: `group`: rows of the query's own group (of one patient, one film) count as if they were not there, as junk
            does in the revisited Oxford and Paris sets; `none`: all count.
        trapezoid: Whether average precision is that of these sets, see `probe.metrics.retrieval.ranks_found`.
        device: Where distances are computed; `auto` is CUDA when there is one.

    Attributes:
        whitening_mean_, whitening_directions_: (D,) and (D, whiten), where that is asked for.
        rows_, labels_: The gallery, where it is the training rows.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "labels")
    whitening_mean_: NDArray[np.float64]
    whitening_directions_: NDArray[np.float64]

    def __init__(
        self,
        gallery: str = "test",
        metric: str = "cosine",
        whiten: int = 0,
        power: float = 1.0,
        junk: str = "none",
        trapezoid: bool = False,
        device: str = "auto",
    ):
        self.gallery = gallery
        self.metric = metric
        self.whiten = whiten
        self.power = power
        self.junk = junk
        self.trapezoid = trapezoid
        self.device = device

    def check_parameters(self) -> None:
        wrong = [
            f"{name} is {getattr(self, name)!r}, expected {' or '.join(known)}"
            for name, known in CHOICES.items()
            if getattr(self, name) not in known
        ]
        if self.whiten < 0 or not self.power > 0:
            wrong.append(f"whiten is {self.whiten} and power {self.power}, expected 0 or more and a number above 0")
        if self.power != 1 and not self.whiten:
            wrong.append(f"power is {self.power} without whiten, expected it after whitening alone")
        if self.gallery == "train" and self.junk == "group":
            wrong.append("junk is group in gallery train, which shares no group with the queries")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Learns the whitening from X (N, D), and keeps X where it is the gallery; validation rows take no part."""
        self.check_parameters()
        X = self._check_rows(X, reset=True)
        check_features(X)
        check_lazy(X)
        if self.whiten:
            found = Whitening.of(X, self.whiten, self.power, self.device)
            self.whitening_mean_, self.whitening_directions_ = found.mean, found.directions
        if self.gallery == "train":
            self.rows_, self.labels_ = X, plain_array(y, "y")
        return self

    def measure(
        self, X: Any, y: NDArray[Any], groups: IntArray | None = None, target: str = "one_class"
    ) -> Mapping[str, RetrievalScores]:
        """Scores of the queries X (n, D) with labels y, by the name under which metrics read them.

        Args:
            X: Features of the test rows.
            y: Their labels, (n,) or (n, K) zeros and ones.
            groups: (n,) of the test rows, with `junk=group`.
            target: Name of what the labels are.
        """
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        check_lazy(X)
        itself = self.gallery == "test"
        gallery, labels = (X, y) if itself else (self.rows_, self.labels_)
        parts = []
        for queries, order in Neighbours(self._whitened(gallery), device=self.device).orders(
            self._whitened(X), self.metric
        ):
            found = np.take_along_axis(_alike(y[queries], labels), order, axis=1)
            own = order == np.arange(queries.start, queries.stop)[:, None] if itself else None
            if self.junk == "group":
                if groups is None:
                    raise InputError(
                        "junk by group wants the groups of the test rows, which name none: set head.junk=none"
                    )
                own = groups[order] == groups[queries, None]
            parts.append(ranks_found(found, own, trapezoid=self.trapezoid))
        precision, map_at_r, first = (np.concatenate(column) for column in zip(*parts, strict=True))
        return {"retrieval": RetrievalScores(target, y, precision, map_at_r, first)}

    def _whitened(self, X: Any) -> Any:
        if not self.whiten:
            return X
        return Whitened(X, Whitening(self.whitening_mean_, self.whitening_directions_, self.power))

    def _logits(self, X: Any) -> FloatArray:
        raise InputError("head none measures features and predicts nothing: choose a head that is fitted, such as knn")


def _alike(queries: NDArray[Any], gallery: NDArray[Any]) -> NDArray[np.bool_]:
    """(n, G) whether rows have the same class, or share a label."""
    if has_columns(gallery):
        return queries.astype(np.float32) @ gallery.T.astype(np.float32) > 0
    found: NDArray[np.bool_] = queries[:, None] == gallery
    return found
