"""Nearest class mean: the class whose mean feature is closest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.heads.shared.forecast import Forecast, Shapes, of_moments
from probe.heads.shared.head import FloatArray
from probe.heads.shared.moments import ClassMoments, MomentsHead


class NearestClassMean(MomentsHead):
    """Predicts the class with the nearest mean: one pass, no hyper-parameters, no prior.

    With f(x) the feature, mu_k the mean of f over the rows of class k, the score of class k is
    `euclidean`: f.mu_k - |mu_k|^2 / 2, that is -|f - mu_k|^2 / 2 up to a term shared by all classes;
    `cosine`: the cosine of the angle between f and mu_k.
    A class without rows is never predicted: its score is minus infinity.

    Source: Janson, Zhang, Aljundi, Elhoseiny, "A Simple Baseline that Questions the Use of Pretrained-Models in
    Continual Learning", 2022, arXiv 2210.04428: metric="euclidean", pre_norm=True. The SimpleCIL/RanPAC baseline
    (arXiv 2303.07338, 2307.02251) is metric="cosine". Departure: rows keep their length by default, since unit
    length costs 10 points on low-dimensional tabular rows.

    Args:
        metric: `euclidean` or `cosine`.
        pre_norm: Scale every row to unit length before it is averaged or compared.
        post_norm: Scale every class mean to unit length.
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        centroids_: (K, D) class means, after `post_norm`.
        class_count_: (K,) rows per class.
    """

    log_probabilities = False
    centroids_: NDArray[np.float64]

    def __init__(
        self, metric: str = "euclidean", pre_norm: bool = False, post_norm: bool = False, device: str = "auto"
    ):
        self.metric = metric
        self.pre_norm = pre_norm
        self.post_norm = post_norm
        self.device = device

    def check_parameters(self) -> None:
        if self.metric not in ("euclidean", "cosine"):
            raise InputError(f"metric={self.metric!r} is unknown: set metric to euclidean or cosine")

    def forecast(self, n_rows: int, shapes: Shapes, n_classes: int) -> Forecast:
        return of_moments(n_rows, shapes["pooled"][0], n_classes)

    def _new_moments(self) -> ClassMoments:
        self.check_parameters()
        return ClassMoments(len(self.classes_), self.n_features_in_, unit_rows=self.pre_norm, device=self.device)

    def _solve(self, moments: ClassMoments) -> None:
        self.centroids_ = _unit(moments.means) if self.post_norm else moments.means

    def _logits(self, X: Any) -> FloatArray:
        rows = np.asarray(X, dtype=np.float64)
        seen = self.class_count_ > 0
        centroids = self.centroids_
        if self.pre_norm or self.metric == "cosine":
            rows = _unit(rows)
        if self.metric == "cosine":
            scores = rows @ _unit(centroids).T
        else:
            # Distances do not change under a common shift, and keep their digits near the origin.
            origin = centroids[seen].mean(axis=0)
            centroids = centroids - origin
            scores = (rows - origin) @ centroids.T - (centroids**2).sum(axis=1) / 2
        return np.where(seen, scores, -np.inf)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of unit length; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
