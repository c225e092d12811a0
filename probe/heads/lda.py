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
from probe.core.terminal import passing
from probe.heads.shared.forecast import Forecast, Shapes, of_moments, of_span
from probe.heads.shared.head import FloatArray, Validation
from probe.heads.shared.moments import ClassMoments, Float64Array, MomentsHead, eigenbasis
from probe.heads.shared.one_pass import BLOCK_BYTES
from probe.heads.shared.row_span import RowSpan, spans_little

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
    Of rows that are at most half as many as 4,096 features or more, `fit` works with products of rows; it then keeps
    no running sums for `partial_fit` to go on with.

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
        parts = self._check_parts(X, y, validation)
        if self._fit_in_span(parts):
            return self
        if self.shrinkage != "ledoit_wolf":
            return self._finish(self._seen(parts))
        moments = self._seen(parts)
        self.class_count_ = moments.counts.copy()
        covariance, scale = _within(moments)
        fourth = _fourth_moment(parts, moments.means, scale, resolve_device(self.device)) / moments.n_rows
        share = _ledoit_wolf(*_size(covariance / np.outer(scale, scale)), fourth, moments.n_rows)
        self._discriminate(moments, covariance, np.diag(covariance.diagonal()), share)
        return self

    @available_if(lambda head: head.shrinkage != "ledoit_wolf")
    def partial_fit(self, X: Any, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Adds rows to those seen so far; equals `fit` on all of them. The first call names all `classes`."""
        return super().partial_fit(X, y, classes)

    def forecast(self, n_rows: int, shapes: Shapes, n_classes: int) -> Forecast:
        (width,) = shapes["pooled"]
        if spans_little(n_rows, width) and self.shrinkage not in ("none", 0):
            return of_span(n_rows, width, n_classes)
        return of_moments(n_rows, width, n_classes, full=8)

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
            share = _oracle_approximating(*_size(covariance / np.outer(scale, scale)), freedom)
            target = np.diag(covariance.diagonal())
        else:
            share = 0.0 if self.shrinkage == "none" else float(self.shrinkage)
            target = np.eye(len(covariance)) * covariance.diagonal().mean()
        self._discriminate(moments, covariance, target, share)

    def _fit_in_span(self, parts: list[tuple[Any, IntArray]]) -> bool:
        """Fits where rows are fewer than features, without a (D, D) matrix and without running sums; else False."""
        self.check_parameters()
        n, width = sum(len(codes) for _, codes in parts), self.n_features_in_
        if not spans_little(n, width) or self.shrinkage in ("none", 0):
            return False
        moments = ClassMoments(len(self.classes_), width, second="diagonal", device=self.device)
        for rows, codes in parts:
            moments.update(rows, codes)
        span = RowSpan(parts, moments.means)
        variances = np.maximum(span.squares, VARIANCE_FLOOR * moments.total() / n)
        target, scale = variances, np.sqrt(np.where(variances > 0, variances, 1))
        if isinstance(self.shrinkage, str):
            span.divide(scale)
            share = self._share_in_span(span, moments, variances / scale**2, span.squares / scale**2)
        else:
            share, scale = float(self.shrinkage), np.ones(width)
            target = np.full(width, variances.mean())
        if not share:
            return False
        self.__dict__.pop("_moments", None)
        self.class_count_, self.shrinkage_ = moments.counts.copy(), share
        means = np.where(moments.counts[:, None] > 0, moments.means - moments.mean, 0)
        beside = (share * target + (1 - share) * (variances - span.squares)) / scale**2
        self._set_rule(moments, span.solve(1 - share, beside, means / scale) / scale, means)
        return True

    def _share_in_span(
        self, span: RowSpan, moments: ClassMoments, variances: Float64Array, squares: Float64Array
    ) -> float:
        """The best share; both diagonals in units of the deviations, with and without the floor of variances."""
        products, n = span.products(), moments.n_rows
        squared_norm = float((products**2).sum() / n**2 + (variances**2 - squares**2).sum())
        size = squared_norm, float(variances.sum()), len(variances)
        if self.shrinkage == "oas":
            return _oracle_approximating(*size, n - (moments.counts > 0).sum())
        return _ledoit_wolf(*size, float((products.diagonal() ** 2).sum()) / n, n)

    def _seen(self, parts: list[tuple[Any, IntArray]]) -> ClassMoments:
        moments = self._new_moments()
        for rows, codes in parts:
            moments.update(rows, codes)
        return moments

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
        self._set_rule(moments, ((means / scale) @ vectors / values) @ vectors.T / scale, means)

    def _set_rule(self, moments: ClassMoments, coef: Float64Array, means: Float64Array) -> None:
        """Sets the linear rule of coefficients S^-1 mu_k, from means about the common one."""
        self.coef_ = coef
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


def _size(covariance: Float64Array) -> tuple[float, float, int]:
    """What the best share depends on: the sum of the squares of all entries, the trace, and D."""
    return float((covariance**2).sum()), float(np.trace(covariance)), len(covariance)


def _oracle_approximating(squared_norm: float, trace: float, width: int, freedom: float) -> float:
    """The share that minimises the expected squared error of (1 - l) S + l tr(S)/D I for Gaussian rows.

    Args:
        squared_norm, trace, width: Of the (D, D) covariance S, as `_size` has them.
        freedom: Rows less the means that were taken from them.
    """
    distance = squared_norm - trace**2 / width
    if distance <= 0:  # S is the target
        return 0.0
    if freedom < 1:
        return 1.0
    share = ((1 - 2 / width) * squared_norm + trace**2) / ((freedom + 1 - 2 / width) * distance)
    return float(min(1.0, share))


def _ledoit_wolf(squared_norm: float, trace: float, width: int, fourth: float, n_rows: float) -> float:
    """The share that minimises the expected squared error of (1 - l) S + l tr(S)/D I, in closed form.

    Args:
        squared_norm, trace, width: Of the (D, D) covariance S of rows r about their (class) means.
        fourth: Mean over rows of |r|^4.
        n_rows: Number of rows.
    """
    distance = squared_norm - trace**2 / width
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
        for rows in passing(row_chunks(X, BLOCK_BYTES), len(X)):
            block = torch.from_numpy(np.array(X[rows], order="C")).to(device=device, dtype=dtype)
            block.sub_(centres[labels[rows]]).mul_(factor)
            total += float(torch.linalg.vecdot(block, block).double().square().sum())
    return total
