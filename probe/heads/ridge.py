"""Ridge: least squares on numbers, or on one-versus-rest targets, every penalty from one eigendecomposition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.arrays import read_rows, row_chunks
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.terminal import passing
from probe.heads.shared.base import AnyHead
from probe.heads.shared.forecast import Forecast, Shapes, of_moments, of_span
from probe.heads.shared.head import FloatArray, Validation
from probe.heads.shared.moments import ClassMoments, Float64Array, MomentsHead, eigenbasis
from probe.heads.shared.number_moments import LEAST_FREEDOM, LEAVE_ONE_OUT_ROWS
from probe.heads.shared.ridge_labels import RidgeLabels
from probe.heads.shared.ridge_numbers import RidgeNumbers, penalties
from probe.heads.shared.row_span import spans_little


class RidgeProbe(MomentsHead):
    """Minimises sum_i |y_i - W x_i - b|^2 + alpha |W|^2 with y = +1 for a row's class and -1 for the others.

    With G = V L V' the scatter of the centred rows and Q = X'Y, W(alpha) = V (L + alpha)^-1 V' Q: one eigenbasis
    serves every penalty, and both G and Q are class statistics. The penalty with the best accuracy wins, ties go to
    the smaller squared error: on the validation rows when given (then refitted on both), else leave-one-out, where
    row i without itself has the residual (y_i - f_i) / (1 - h_i), h_i = 1/n + z_i' (L + alpha)^-1 z_i, z = V'(x - m).
    `partial_fit` keeps no row to judge a penalty by: it takes the one with the smallest generalised cross-validation
    error, the squared error of leaving one out with the mean of h_i in place of each, which is a class statistic too.
    With one penalty, streaming equals `fit`, which keeps no running sums where it sees at most half as many rows as
    4,096 features or more. A class without rows is never predicted.

    Source: the ridge head of McDonnell et al., "RanPAC", 2023, arXiv 2307.02251, without its random projection;
    generalised cross-validation: Golub, Heath, Wahba, 1979. Departures: an unpenalised intercept, and `fit` chooses
    the penalty by accuracy instead of squared error. Scores are regressions to +-1, not calibrated log-probabilities.

    Of numbers to predict it is ridge regression, which chooses by squared error: see `RidgeNumbers`. Of several labels
    per row each is a regression of its own, and mAP chooses: see `RidgeLabels`.

    Args:
        alphas: Penalties to choose from, or how many, log-spaced between 1e-8 and 1e8.
        alpha_per_target: Of numbers in several columns, whether each has its own penalty.
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        alpha_: The penalty chosen.
        coef_, intercept_: (K, D) and (K,).
        class_count_: (K,) rows per class.
        scores_, squared_errors_: (n_alphas,) accuracy and mean squared error of the penalties in the order of
            `alphas_`; after `partial_fit` minus the generalised cross-validation error, and that error.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "labels", "number")
    reads_unknown: ClassVar[bool] = True
    searches: ClassVar[Mapping[str, str]] = {"alpha": "alphas"}
    unordered: ClassVar[tuple[str, ...]] = ("alphas",)
    log_probabilities = False
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    def __init__(self, alphas: int | Sequence[float] = 17, alpha_per_target: bool = False, device: str = "auto"):
        self.alphas = alphas
        self.alpha_per_target = alpha_per_target
        self.device = device

    def for_target(self, target: str) -> AnyHead:
        kind = {"labels": RidgeLabels, "number": RidgeNumbers}.get(target)
        return self if kind is None else kind(**self.get_params(deep=False))

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), chooses the penalty on the validation rows if given, else leaving one out."""
        parts = self._check_parts(X, y, validation)
        moments = self._new_moments()
        wide = spans_little(sum(len(codes) for _, codes in parts), self.n_features_in_)
        if wide:  # the basis comes from the rows
            moments = ClassMoments(len(self.classes_), self.n_features_in_, device=self.device)
        moments.update(*parts[0])
        basis = _basis(moments, parts[:1])
        self._choose(moments, basis, *parts[-1], leave_one_out=validation is None)
        if validation is not None:
            self._set_linear_form(moments, basis)
            self._keep_choice()
            moments.update(*parts[1])
            basis = _basis(moments, parts)
        self.class_count_ = moments.counts.copy()
        self.__dict__.pop("_moments", None)
        if not wide:
            self._moments = moments
        self._set_linear_form(moments, basis)
        return self

    def forecast(self, n_rows: int, shapes: Shapes, n_classes: int) -> Forecast:
        (width,) = shapes["pooled"]
        if 2 * n_rows <= width:
            return of_span(n_rows, width, n_classes)
        found = of_moments(n_rows, width, n_classes, full=6)
        judged = 2 * min(n_rows, LEAVE_ONE_OUT_ROWS) * width * (width + len(self._check_alphas()) * n_classes)
        return replace(found, products=found.products + judged)

    @property
    def chooses_in_stream(self) -> bool:
        return len(self._check_alphas()) > 1

    def _new_moments(self) -> ClassMoments:
        self.alphas_ = self._check_alphas()
        return ClassMoments(len(self.classes_), self.n_features_in_, second="full", device=self.device)

    def _solve(self, moments: ClassMoments) -> None:
        basis = eigenbasis(moments.total(), moments.rounding)
        self.squared_errors_ = _generalised_errors(moments, basis, self.alphas_)
        self.scores_ = -self.squared_errors_
        self._select("generalised cross-validation")
        self._set_linear_form(moments, basis)

    def _set_linear_form(self, moments: ClassMoments, basis: tuple[Float64Array, Float64Array]) -> None:
        values, vectors = basis
        self.coef_ = (_cross(moments).T @ vectors / (values + self.alpha_)) @ vectors.T
        intercept = _target_means(moments) - self.coef_ @ moments.mean
        self.intercept_ = np.where(moments.counts > 0, intercept, -np.inf)

    def check_parameters(self) -> None:
        self._check_alphas()

    def _check_alphas(self) -> Float64Array:
        if self.alpha_per_target:
            raise InputError(
                "alpha_per_target=True is for several columns of numbers, classes share a penalty: set "
                "head.alpha_per_target=false"
            )
        return penalties(self.alphas)

    def _choose(
        self,
        moments: ClassMoments,
        basis: tuple[Float64Array, Float64Array],
        X: Any,
        codes: IntArray,
        *,
        leave_one_out: bool,
    ) -> None:
        """Scores every penalty on the rows, and sets `alpha_` and what tells of its choice."""
        if leave_one_out and len(X) > LEAVE_ONE_OUT_ROWS:
            judged = np.linspace(0, len(X) - 1, LEAVE_ONE_OUT_ROWS).astype(np.int64)
            # From the file: through the mapping, rows far apart would make most of it resident.
            X, codes = read_rows(X, judged), codes[judged]
        correct, squares = np.zeros(len(self.alphas_)), np.zeros(len(self.alphas_))
        for rows in passing(row_chunks(X), len(X)):
            residuals_by_alpha = _residuals(moments, basis, self.alphas_, X[rows], codes[rows], leave_one_out)
            for a, residuals in enumerate(residuals_by_alpha):
                targets = _targets(codes[rows], len(self.classes_))
                # A row that says nothing (NaN) counts as missed, by as much as the targets are apart.
                correct[a] += (_argmax_or_none(targets - residuals) == codes[rows]).sum()
                squares[a] += np.where(np.isnan(residuals), 4, residuals**2).sum()
        self.scores_ = correct / len(X)
        self.squared_errors_ = squares / (len(X) * len(self.classes_))
        self._select("leave-one-out" if leave_one_out else "validation")

    def _select(self, on: str) -> None:
        """Takes the penalty of the best score, of equal ones that of the smallest error, and records the search."""
        best = max(range(len(self.alphas_)), key=lambda a: (self.scores_[a], -self.squared_errors_[a]))
        self.alpha_ = float(self.alphas_[best])
        searched = zip(self.alphas_.tolist(), self.scores_.tolist(), self.squared_errors_.tolist(), strict=True)
        self.selection_ = {
            "on": on,
            "searched": [{"alpha": a, "score": score, "squared_error": error} for a, score, error in searched],
            "chosen": {"alpha": self.alpha_},
        }

    def _logits(self, X: Any) -> FloatArray:
        return np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_


def _targets(codes: IntArray, n_classes: int) -> Float64Array:
    targets = np.full((len(codes), n_classes), -1.0)
    targets[np.arange(len(codes)), codes] = 1
    return targets


def _basis(moments: ClassMoments, parts: list[tuple[Any, IntArray]]) -> tuple[Float64Array, Float64Array]:
    """`eigenbasis` of the scatter; that of few rows comes from the rows, which span little of a (D, D) matrix."""
    width = len(moments.shift)
    if moments.n_rows > width / 2:
        return eigenbasis(moments.total(), moments.rounding)
    rows = np.concatenate([np.asarray(X, dtype=np.float64) for X, _ in parts]) - moments.mean
    _, roots, vectors = np.linalg.svd(rows, full_matrices=False)
    kept = roots > 10 * np.finfo(np.float64).eps * np.sqrt(width) * roots.max()
    return roots[kept] ** 2, vectors[kept].T


def _target_means(moments: ClassMoments) -> Float64Array:
    return 2 * moments.counts / moments.n_rows - 1


def _cross(moments: ClassMoments) -> Float64Array:
    """(D, K) product of centred rows and targets."""
    return 2 * (moments.sums - moments.counts[:, None] * moments.mean).T


def _generalised_errors(
    moments: ClassMoments, basis: tuple[Float64Array, Float64Array], alphas: Float64Array
) -> Float64Array:
    """(n_alphas,) mean squared error over (1 - d / n)^2, with d = 1 + sum of l / (l + alpha) the degrees of freedom.

    Both vanish together where the features can explain any targets: there each direction's share of what is left is
    summed, alpha / (l + alpha), instead of subtracted from the whole.
    """
    values, vectors = basis
    n, seen = moments.n_rows, moments.counts > 0
    explained = ((vectors.T @ _cross(moments)) ** 2).sum(axis=1) / values
    scatter = n * (1 - _target_means(moments)[seen] ** 2).sum()
    # With a direction for every row but one, all targets lie in the span, and the difference is rounding noise.
    spare = max(n - 1 - len(values), 0)
    outside = max(scatter - explained.sum(), 0.0) if spare else 0.0
    left = alphas[:, None] / (values + alphas[:, None])
    freedom = (spare + left.sum(axis=1)) / n
    errors = (outside + left**2 @ explained) / (n * max(seen.sum(), 1))
    # A penalty that leaves no freedom says nothing of other rows: it counts as a miss, by as much as targets are apart.
    return np.divide(errors, freedom**2, where=freedom > LEAST_FREEDOM, out=np.full(len(alphas), 4.0))


def _argmax_or_none(scores: Float64Array) -> IntArray:
    return np.where(np.isnan(scores).any(axis=1), -1, np.nan_to_num(scores).argmax(axis=1))


def _residuals(
    moments: ClassMoments,
    basis: tuple[Float64Array, Float64Array],
    alphas: Float64Array,
    X: Any,
    codes: IntArray,
    leave_one_out: bool,
) -> Any:
    """Yields (N, K) targets minus predictions for each penalty; of the fit without the row itself if so asked."""
    values, vectors = basis
    targets = _targets(codes, len(moments.counts))
    rotated = (np.asarray(X, dtype=np.float64) - moments.mean) @ vectors
    cross = vectors.T @ _cross(moments)
    for alpha in alphas:
        inverse = 1 / (values + alpha)
        residuals = targets - _target_means(moments) - rotated @ (inverse[:, None] * cross)
        if leave_one_out:
            freedom = 1 - 1 / moments.n_rows - rotated**2 @ inverse
            residuals = residuals / np.where(freedom > LEAST_FREEDOM, freedom, np.nan)[:, None]
        yield residuals
