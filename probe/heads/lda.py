"""Linear discriminant analysis: Gaussian classes that share one covariance."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if

from probe.core.arrays import row_chunks
from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Validation
from probe.heads.shared.moments import ClassMoments, Float64Array, MomentsHead, eigenbasis
from probe.heads.shared.one_pass import BLOCK_BYTES

# Share of a feature's total variance below which its variance within classes is no longer trusted, as in naive Bayes.
VARIANCE_FLOOR = 1e-9


class LinearDiscriminant(MomentsHead):
    """Bayes' rule for Gaussian classes with one covariance S: w_k = S^-1 mu_k, b_k = log pi_k - mu_k' S^-1 mu_k / 2.

    S is the pooled covariance within classes, W, shrunk by a share l:
    `none`: S = W, directions without variance left out; needs more rows than features and classes together.
    a number l: S = (1 - l) W + l tr(W)/D I, as in scikit-learn; l = 1 is the nearest class mean with priors.
    `oas`, `ledoit_wolf`: S = (1 - l) W + l diag(W), with l the best share for the features in units of their deviation
    within classes. The oracle approximating share takes the classes to be Gaussian, as the rule itself does, and so
    needs no more than W: with it the head streams. Ledoit and Wolf's share takes nothing for granted and reads every
    row a second time for its fourth moment: with it `partial_fit` is not there.
    A class without rows is never predicted.

    Source: Chen, Wiesel, Eldar, Hero, "Shrinkage Algorithms for MMSE Covariance Estimation", 2010, arXiv 0907.4698
    (equation 23, with N - K degrees of freedom in place of n); Ledoit, Wolf, "A Well-Conditioned Estimator for
    Large-Dimensional Covariance Matrices", 2004. Departure from scikit-learn's shrinkage="auto": one share for the
    pooled covariance instead of one per class, so that memory does not grow with classes times D^2 and a class with
    one row is no special case.

    Args:
        shrinkage: `none`, `oas`, `ledoit_wolf` or a number from 0 to 1.
        device: Where the passes over the rows are computed; `auto` is CUDA when there is one.

    Attributes:
        shrinkage_: The share l that was used.
        class_count_: (K,) rows per class.
        coef_, intercept_: (K, D) and (K,); terms shared by all classes are left out.
    """

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    def __init__(self, shrinkage: str | float = "oas", device: str = "auto"):
        self.shrinkage = shrinkage
        self.device = device

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,); validation rows are further training rows, since there is nothing to choose."""
        if self.shrinkage != "ledoit_wolf":
            return super().fit(X, y, validation=validation)
        parts = self._check_parts(X, y, validation)
        moments = self._new_moments()
        for rows, codes in parts:
            moments.update(rows, codes)
        self.class_count_ = moments.counts.copy()
        covariance, scale = _within(moments)
        fourth = _fourth_moment(parts, moments.means, scale, resolve_device(self.device)) / moments.n_rows
        share = _ledoit_wolf(covariance / np.outer(scale, scale), fourth, moments.n_rows)
        self._discriminate(moments, covariance, np.diag(covariance.diagonal()), share)
        return self

    @available_if(lambda head: head.shrinkage != "ledoit_wolf")
    def partial_fit(self, X: Any, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Adds rows to those seen so far; equals `fit` on all of them. The first call names all `classes`."""
        return super().partial_fit(X, y, classes)

    def check_parameters(self) -> None:
        if isinstance(self.shrinkage, str):
            valid = self.shrinkage in ("none", "oas", "ledoit_wolf")
        else:
            valid = not isinstance(self.shrinkage, bool) and 0 <= self.shrinkage <= 1
        if not valid:
            raise InputError(
                f"shrinkage={self.shrinkage!r} is unknown: set shrinkage to none, oas, ledoit_wolf or a number from 0 "
                "to 1"
            )

    def _new_moments(self) -> ClassMoments:
        self.check_parameters()
        return ClassMoments(len(self.classes_), self.n_features_in_, second="full", device=self.device)

    def _solve(self, moments: ClassMoments) -> None:
        if self.shrinkage == "none" and moments.n_rows - len(self.classes_) < self.n_features_in_:
            raise InputError(
                f"{int(moments.n_rows)} rows of {len(self.classes_)} classes give no covariance of "
                f"{self.n_features_in_} features: with head.shrinkage=none give more rows than features and classes "
                "together, or set head.shrinkage=oas"
            )
        covariance, scale = _within(moments)
        if self.shrinkage == "oas":
            freedom = moments.n_rows - (moments.counts > 0).sum()
            share = _oracle_approximating(covariance / np.outer(scale, scale), freedom)
            target = np.diag(covariance.diagonal())
        else:
            share = 0.0 if self.shrinkage == "none" else float(self.shrinkage)
            target = np.eye(len(covariance)) * covariance.diagonal().mean()
        self._discriminate(moments, covariance, target, share)

    def _discriminate(
        self, moments: ClassMoments, covariance: Float64Array, target: Float64Array, share: float
    ) -> None:
        """Sets the linear rule for the covariance shrunk towards the target."""
        self.shrinkage_ = share
        covariance = (1 - share) * covariance + share * target
        # In units of each feature's deviation, so that no choice of units decides which directions count as noise.
        scale = np.sqrt(np.where(covariance.diagonal() > 0, covariance.diagonal(), 1))
        values, vectors = eigenbasis(covariance / np.outer(scale, scale), moments.rounding)
        # Means about the common one: the difference is shared by all classes, and large offsets keep their digits.
        means = np.where(moments.counts[:, None] > 0, moments.means - moments.mean, 0)
        self.coef_ = ((means / scale) @ vectors / values) @ vectors.T / scale
        with np.errstate(divide="ignore"):
            priors = np.log(moments.counts / moments.n_rows)
        self.intercept_ = priors - (self.coef_ * means).sum(axis=1) / 2 - self.coef_ @ moments.mean

    def _logits(self, X: Any) -> FloatArray:
        return np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_


def _within(moments: ClassMoments) -> tuple[Float64Array, Float64Array]:
    """(D, D) covariance within classes, its diagonal floored, and the deviation of each feature, 1 for a constant."""
    covariance = moments.within() / moments.n_rows
    variances = np.maximum(covariance.diagonal(), VARIANCE_FLOOR * moments.total().diagonal() / moments.n_rows)
    np.fill_diagonal(covariance, variances)
    return covariance, np.sqrt(np.where(variances > 0, variances, 1))


def _oracle_approximating(covariance: Float64Array, freedom: float) -> float:
    """The share that minimises the expected squared error of (1 - l) S + l tr(S)/D I for Gaussian rows.

    Args:
        covariance: (D, D) covariance S.
        freedom: Rows less the means that were taken from them.
    """
    width, squared_norm, trace = len(covariance), float((covariance**2).sum()), float(np.trace(covariance))
    distance = squared_norm - trace**2 / width
    if distance <= 0:  # S is the target
        return 0.0
    if freedom < 1:
        return 1.0
    share = ((1 - 2 / width) * squared_norm + trace**2) / ((freedom + 1 - 2 / width) * distance)
    return float(min(1.0, share))


def _ledoit_wolf(covariance: Float64Array, fourth: float, n_rows: float) -> float:
    """The share that minimises the expected squared error of (1 - l) S + l tr(S)/D I, in closed form.

    Args:
        covariance: (D, D) covariance S of rows r about their (class) means.
        fourth: Mean over rows of |r|^4.
        n_rows: Number of rows.
    """
    squared_norm = float((covariance**2).sum())
    distance = squared_norm - float(np.trace(covariance)) ** 2 / len(covariance)
    variance = min((fourth - squared_norm) / n_rows, distance)
    return max(variance / distance, 0.0) if distance > 0 else 0.0


def _fourth_moment(parts: list[tuple[Any, IntArray]], means: Float64Array, scale: Float64Array, device: str) -> float:
    """Sum over rows of |(x - mu_y) / scale|^4, in a second pass."""
    import torch

    total = 0.0
    for X, codes in parts:
        dtype = torch.float64 if X.dtype == np.float64 else torch.float32
        centres, factor = (torch.as_tensor(a, dtype=dtype, device=device) for a in (means, 1 / scale))
        labels = torch.as_tensor(codes, device=device)
        for rows in row_chunks(X, BLOCK_BYTES):
            block = torch.from_numpy(np.array(X[rows], order="C")).to(device=device, dtype=dtype)
            block.sub_(centres[labels[rows]]).mul_(factor)
            total += float(torch.linalg.vecdot(block, block).double().square().sum())
    return total
