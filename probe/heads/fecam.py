"""FeCAM: the class whose mean is nearest in units of its own, normalised covariance."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.heads.shared.class_scatter import ClassScatter
from probe.heads.shared.head import FloatArray, Head, Validation
from probe.heads.shared.streaming import check_stream

BLOCK_ROWS = 8192
Float64Array = NDArray[np.float64]


class FeatureCovariances(Head):
    """Predicts argmin_k v' C_k^+ v, v = u(t(u(x))) - u(t(mu_k)), with u(x) = x / |x| and t(x) = x^tukey.

    C_k is the covariance of t(x) over the rows of class k, each time it is shrunk
    C <- C + alpha1 mean(diagonal) I + alpha2 mean(off-diagonal) (1 - I), then brought to unit diagonal. A class of one
    row has the identity, one without rows is never predicted. Memory grows with K D^2.

    Source: Goswami, Liu, Twardowski, van de Weijer, "FeCAM: Exploiting the Heterogeneity of Class Distributions in
    Exemplar-Free Continual Learning", 2023, arXiv 2309.14062. Departures: the released code shrinks twice (here
    `n_shrinks`), takes Euclidean distances in the first task, and gives NaN for powers of negative features, which are
    refused here.

    Args:
        alpha1: Share of the mean variance that is added to each variance.
        alpha2: Share of the mean covariance (of those that are not 0) that is added to each covariance.
        tukey: Power of the features, above 0; 0.5 is the source's for features of a ReLU network, 1 leaves them.
        n_shrinks: How often a covariance is shrunk.
        covariance: `class`, or `identity`: the nearest class mean on rows of unit length.

    Attributes:
        means_: (K, D) u(t(mu_k)).
        precisions_: (K, D, D) C_k^+.
        class_count_: (K,) rows per class.
    """

    log_probabilities = False
    means_: Float64Array
    precisions_: Float64Array
    _scatter: ClassScatter
    _sums: Float64Array

    def __init__(
        self,
        alpha1: float = 1.0,
        alpha2: float = 1.0,
        tukey: float = 1.0,
        n_shrinks: int = 1,
        covariance: str = "class",
    ):
        self.alpha1 = alpha1
        self.alpha2 = alpha2
        self.tukey = tukey
        self.n_shrinks = n_shrinks
        self.covariance = covariance

    def check_parameters(self) -> None:
        wrong = [
            f"{name} is {value!r}, expected {expected}"
            for name, value, holds, expected in (
                ("alpha1", self.alpha1, self.alpha1 >= 0, "0 or more"),
                ("alpha2", self.alpha2, self.alpha2 >= 0, "0 or more"),
                ("tukey", self.tukey, self.tukey > 0, "a number above 0"),
                ("n_shrinks", self.n_shrinks, self.n_shrinks >= 0, "0 or more"),
                ("covariance", self.covariance, self.covariance in ("class", "identity"), "class or identity"),
            )
            if not holds
        ]
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), and on the validation rows too, as if they were one array."""
        parts = self._check_parts(X, y, validation)
        self._begin()
        for rows, codes in parts:
            self._add(rows, codes)
        return self._solve()

    def partial_fit(self, X: Any, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Adds rows to those seen so far; equals `fit` on all of them. The first call names all `classes`."""
        begun = hasattr(self, "_scatter")
        if not begun and hasattr(self, "classes_"):
            raise InputError(f"a loaded {type(self).__name__} has no running sums: fit it before partial_fit")
        rows, codes = check_stream(self, X, y, classes, begun=begun)
        if not begun:
            self._begin()
        self._add(rows, codes)
        return self._solve()

    def _begin(self) -> None:
        self.check_parameters()
        self._scatter = ClassScatter(len(self.classes_), self.n_features_in_)
        self._sums = np.zeros((len(self.classes_), self.n_features_in_))

    def _add(self, X: Any, codes: IntArray) -> None:
        for start in range(0, len(X), BLOCK_ROWS):
            rows, of = np.asarray(X[start : start + BLOCK_ROWS], dtype=np.float64), codes[start : start + BLOCK_ROWS]
            self._scatter.update(self._power(rows), of)
            np.add.at(self._sums, of, rows)

    def _solve(self) -> Self:
        counts = self._scatter.counts
        self.class_count_ = counts.copy()
        self.means_ = _unit(self._power(self._sums / np.maximum(counts, 1)[:, None]))
        width = self.n_features_in_
        self.precisions_ = np.zeros((len(counts), width, width))
        for k in np.flatnonzero(counts):
            self.precisions_[k] = np.eye(width)
            if self.covariance == "class" and counts[k] > 1:
                C = self._scatter.scatter(int(k)) / (counts[k] - 1)
                self.precisions_[k] = np.linalg.pinv(self._normalised(C), hermitian=True)
        return self

    def _normalised(self, C: Float64Array) -> Float64Array:
        """A covariance, shrunk and with a diagonal of 1."""
        inside = np.eye(len(C), dtype=bool)
        for _ in range(self.n_shrinks):
            off = C[~inside]
            between = off[off != 0].mean() if (off != 0).any() else 0.0
            C = C + np.where(inside, self.alpha1 * C.diagonal().mean(), self.alpha2 * between)
        deviations = np.sqrt(np.where(C.diagonal() > 0, C.diagonal(), 1))
        return C / np.outer(deviations, deviations)

    def _power(self, rows: Float64Array) -> Float64Array:
        if self.tukey == 1:
            return rows
        if (rows < 0).any():
            raise InputError(
                f"a feature is {rows.min():.3g}, powers are taken of features from 0 on: set head.tukey=1, or give "
                "features of a network that ends in a ReLU"
            )
        found: Float64Array = rows**self.tukey
        return found

    def _logits(self, X: Any) -> FloatArray:
        rows = _unit(self._power(_unit(np.asarray(X, dtype=np.float64))))
        found = np.full((len(rows), len(self.means_)), -np.inf)
        for k in np.flatnonzero(self.class_count_):
            off = rows - self.means_[k]
            found[:, k] = -((off @ self.precisions_[k]) * off).sum(axis=1)
        return found


def _unit(rows: Float64Array) -> Float64Array:
    """Rows of unit length; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
