"""Quadratic discriminant analysis: Gaussian classes, each with a covariance of its own."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.errors import InputError
from probe.heads.shared.class_scatter import ClassScatter
from probe.heads.shared.head import FloatArray, Head, Validation
from probe.heads.shared.streaming import check_stream

FLOOR = 1e-9
"""Share of the mean variance of all rows that every variance has at least."""


class QuadraticDiscriminant(Head):
    """Bayes' rule for Gaussian classes: l_k = log pi_k - 1/2 log |S_k| - 1/2 (x - mu_k)' S_k^-1 (x - mu_k).

    With A_k the scatter of class k, n_k its rows, A and n those of all classes:
    C_k = ((1 - pooling) A_k + pooling A) / ((1 - pooling) n_k + pooling n), S_k = (1 - shrinkage) C_k + shrinkage
    tr(C_k) / D I. pooling = 1 is linear discriminant analysis, pooling = shrinkage = 1 the nearest class mean with
    priors. Each variance has a billionth of the mean variance of all rows at least. A class without rows is never
    predicted. Memory grows with K D^2.

    Source: J. Friedman, "Regularized Discriminant Analysis", 1989; on the features of frozen backbones: Wang et al., "A
    Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", 2024, arXiv 2402.04087, for one shared covariance.

    Args:
        shrinkage: From 0 to 1, towards a sphere.
        pooling: From 0 to 1, towards the covariance of all classes.

    Attributes:
        means_: (K, D) class means.
        whitenings_: (K, D, D) matrices R with R R' the inverse of S_k.
        offsets_: (K,) log pi_k - 1/2 log |S_k|.
        class_count_: (K,) rows per class.
    """

    means_: NDArray[np.float64]
    whitenings_: NDArray[np.float64]
    offsets_: NDArray[np.float64]
    _scatter: ClassScatter

    def __init__(self, shrinkage: float = 0.1, pooling: float = 0.1):
        self.shrinkage = shrinkage
        self.pooling = pooling

    def check_parameters(self) -> None:
        for name in ("shrinkage", "pooling"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise InputError(f"{name} is {value!r}, expected a number from 0 to 1: change head.{name}")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), and on the validation rows too, as if they were one array."""
        parts = self._check_parts(X, y, validation)
        self.check_parameters()
        scatter = ClassScatter(len(self.classes_), self.n_features_in_)
        for rows, codes in parts:
            scatter.update(rows, codes)
        return self._solve(scatter)

    def partial_fit(self, X: Any, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Adds rows to those seen so far; equals `fit` on all of them. The first call names all `classes`."""
        begun = hasattr(self, "_scatter")
        if not begun and hasattr(self, "classes_"):
            raise InputError(f"a loaded {type(self).__name__} has no running sums: fit it before partial_fit")
        self.check_parameters()
        rows, codes = check_stream(self, X, y, classes, begun=begun)
        scatter = self._scatter if begun else ClassScatter(len(self.classes_), self.n_features_in_)
        return self._solve(scatter.update(rows, codes))

    def _solve(self, scatter: ClassScatter) -> Self:
        self._scatter, self.class_count_ = scatter, scatter.counts.copy()
        counts, width, (own, share) = scatter.counts, self.n_features_in_, (1 - self.pooling, self.pooling)
        pooled = sum((scatter.scatter(k) for k in range(len(counts))), start=np.zeros((width, width)))
        spread = scatter.means[counts > 0] - scatter.sums.sum(axis=0) / counts.sum()
        total = np.trace(pooled) + (counts[counts > 0] * (spread**2).sum(axis=1)).sum()
        least = FLOOR * max(float(total) / (width * counts.sum()), np.finfo(np.float64).tiny)
        self.means_, self.whitenings_ = scatter.means, np.zeros((len(counts), width, width))
        with np.errstate(divide="ignore"):
            self.offsets_ = np.log(counts / counts.sum())
        for k in np.flatnonzero(counts):
            C = (own * scatter.scatter(int(k)) + share * pooled) / (own * counts[k] + share * counts.sum())
            values, vectors = np.linalg.eigh(C)
            values = (1 - self.shrinkage) * values.clip(min=0) + self.shrinkage * values.clip(min=0).mean()
            values = np.maximum(values, least)
            self.whitenings_[k] = vectors / np.sqrt(values)
            self.offsets_[k] -= np.log(values).sum() / 2
        return self

    def _logits(self, X: Any) -> FloatArray:
        rows = np.asarray(X, dtype=np.float64)
        found = np.empty((len(rows), len(self.means_)))
        for k, (mean, whitening) in enumerate(zip(self.means_, self.whitenings_, strict=True)):
            found[:, k] = self.offsets_[k] - (((rows - mean) @ whitening) ** 2).sum(axis=1) / 2
        return found
