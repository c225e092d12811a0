"""Streaming linear discriminant analysis, as continual learning has it: one covariance, no priors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray
from probe.heads.shared.moments import ClassMoments, MomentsHead


class StreamingDiscriminant(MomentsHead):
    """l_k = w_k.x - w_k.mu_k / 2 with w_k = S^-1 mu_k and S = (1 - shrinkage) W + shrinkage I.

    W is the covariance within classes, over all rows seen so far. In contrast to `lda` the identity is not scaled by
    the features, and frequent classes have no advantage. Streaming rows gives what fitting them at once gives. A class
    without rows is never predicted.

    Source: Hayes, Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", 2020, arXiv
    1909.01520. Departure: the released update counts rows of all classes where those of the row's own belong, and
    begins each class at a mean of 0, so that class means enter the covariance; here W is exact.

    Args:
        shrinkage: Above 0, up to 1.
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        class_count_: (K,) rows per class.
        coef_, intercept_: (K, D) and (K,); terms shared by all classes are left out.
    """

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    def __init__(self, shrinkage: float = 1e-4, device: str = "auto"):
        self.shrinkage = shrinkage
        self.device = device

    def check_parameters(self) -> None:
        if not 0 < self.shrinkage <= 1:
            raise InputError(f"shrinkage is {self.shrinkage!r}, expected above 0, up to 1: change head.shrinkage")

    def _new_moments(self) -> ClassMoments:
        self.check_parameters()
        return ClassMoments(len(self.classes_), self.n_features_in_, second="full", device=self.device)

    def _solve(self, moments: ClassMoments) -> None:
        width = self.n_features_in_
        covariance = (1 - self.shrinkage) * moments.within() / moments.n_rows + self.shrinkage * np.eye(width)
        # Means about the common one: the difference is shared by all classes, and large offsets keep their digits.
        seen = moments.counts > 0
        means = np.where(seen[:, None], moments.means - moments.mean, 0)
        self.coef_ = np.linalg.solve(covariance, means.T).T.astype(np.float64, copy=False)
        offsets = -(self.coef_ * means).sum(axis=1) / 2 - self.coef_ @ moments.mean
        self.intercept_ = np.where(seen, offsets, -np.inf)

    def _logits(self, X: Any) -> FloatArray:
        return np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_
