"""Language-guided targets: a linear map takes rows to the texts of their classes, which stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.core.arrays import row_chunks
from probe.core.base import IntArray
from probe.heads.shared.described_head import DescribedHead
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.moments import ClassMoments, MomentsHead
from probe.heads.shared.ridge_numbers import penalties
from probe.heads.shared.text_head import unit

LEAST_FREEDOM = 1e-6
"""Below this share of rows that are not explained by the fit itself, it says nothing of other rows."""


class LanguageGuided(MomentsHead, DescribedHead):
    """Logits cos(A f, w_k) / temperature, w_k the text of class k at unit length, which nothing changes.

    A = argmin sum_i |A f_i - w_{y_i}|^2 + alpha |A|^2 comes from class statistics alone: rows stream, and those of old
    classes are not forgotten. alpha is that of best accuracy on the validation rows, ties go to the smaller squared
    error; A is then fitted on both sets of rows. Without validation rows, and in a stream, it is that of the smallest
    generalised cross-validation error, (residual squares / n) / (1 - d / n)^2 with d = sum l / (l + alpha) over the
    eigenvalues l of sum_i f_i f_i'.

    Targets must tell classes apart, and texts of one template are much alike: `centre` subtracts their mean first.
    Where the backbone has no text tower, attributes of the classes stand for their texts.

    Source: Ni et al., "Enhancing Visual Continual Learning with Language-Guided Supervision", 2024, arXiv 2403.16124.
    Departure: the backbone is frozen, so that the map has a closed form.

    Args:
        templates: `generic`, `cifar`, `imagenet`, or sentences of your own with `{}` for the name of the class.
        temperature: Positive; null is that of the model, and 0.01 where there is no model to ask.
        class_features: (K, D) one row per class of the dataset, of any length. A run fills it in.
        alphas: Penalties to choose from, or how many, log-spaced between 1e-8 and 1e8.
        centre: Whether the mean of the texts is subtracted from each.
        predict_unseen: Whether classes without rows may be predicted, by their texts.
        attributes: (K, A) a row per class of the dataset in place of its texts, or a file of such: `.npy`, or `.csv`
            with the name of the class in its first column. Null: texts.
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        map_: (T, D) A.
        targets_: (K, T) w_k.
        alpha_: The penalty chosen.
        class_count_: (K,) rows per class.
        selection_: What was searched; absent where there was one penalty.
    """

    searches: ClassVar[Mapping[str, str]] = {"alpha": "alphas"}
    unordered: ClassVar[tuple[str, ...]] = ("alphas",)
    map_: FloatArray
    targets_: FloatArray

    def __init__(
        self,
        templates: str | Sequence[str] = "generic",
        temperature: float | None = None,
        class_features: ArrayLike | None = None,
        alphas: int | Sequence[float] = 17,
        centre: bool = False,
        predict_unseen: bool = False,
        attributes: str | ArrayLike | None = None,
        device: str = "auto",
    ):
        self.templates = templates
        self.temperature = temperature
        self.class_features = class_features
        self.alphas = alphas
        self.centre = centre
        self.predict_unseen = predict_unseen
        self.attributes = attributes
        self.device = device

    def check_parameters(self) -> None:
        super().check_parameters()
        penalties(self.alphas)

    @property
    def chooses_in_stream(self) -> bool:
        return len(penalties(self.alphas)) > 1

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), codes into `class_features`, and chooses the penalty."""
        self._check_texts()
        self.__dict__.pop("selection_", None)
        parts = self._check_parts(X, y, validation)
        moments = self._new_moments().update(*parts[0])
        if validation is not None and self.chooses_in_stream:
            check_lazy(parts[1][0], "the validation rows")
            self._choose(moments, *parts[1])
            self._keep_choice()
        if validation is not None:
            moments.update(*parts[1])
        elif self.chooses_in_stream:
            return self._finish(moments)
        self._moments, self.class_count_ = moments, moments.counts.copy()
        self._keep(moments, getattr(self, "selection_", {"chosen": {"alpha": self._only()}})["chosen"]["alpha"])
        return self

    def _only(self) -> float:
        return float(penalties(self.alphas)[0])

    def _new_moments(self) -> ClassMoments:
        self.check_parameters()
        self._check_texts()
        texts = self._features_of_classes(None)
        self.targets_ = unit(texts - texts.mean(axis=0) if self.centre else texts)
        return ClassMoments(len(self.classes_), self.n_features_in_, second="full", device=self.device)

    def _solve(self, moments: ClassMoments) -> None:
        alphas, (values, vectors), n = penalties(self.alphas), basis(moments), moments.n_rows
        explained = ((vectors.T @ self._cross(moments)) ** 2).sum(axis=1)
        inverse = 1 / (values + alphas[:, None])
        squares = moments.counts @ (self.targets_**2).sum(axis=1)
        residual = squares - (2 * inverse - values * inverse**2) @ explained
        freedom = 1 - (values * inverse).sum(axis=1) / n
        says = freedom > LEAST_FREEDOM
        errors = np.where(says, np.maximum(residual, 0) / n / np.where(says, freedom, 1) ** 2, np.inf)
        best = int(np.argmin(errors))
        if len(alphas) > 1:
            searched = [
                {"alpha": float(a), "score": -float(e)} for a, e in zip(alphas, np.minimum(errors, 1e9), strict=True)
            ]
            chosen = {"alpha": float(alphas[best])}
            self.selection_ = {"on": "generalised cross-validation", "searched": searched, "chosen": chosen}
        self._keep(moments, float(alphas[best]))

    def _choose(self, moments: ClassMoments, X: Any, codes: IntArray) -> None:
        found = []
        for alpha in penalties(self.alphas):
            self.class_count_ = moments.counts.copy()
            self._keep(moments, float(alpha))
            right = squares = 0.0
            for rows in row_chunks(X):
                chunk = np.asarray(X[rows], dtype=np.float64)
                right += float((self._logits(chunk).argmax(axis=1) == codes[rows]).sum())
                squares += float(((chunk @ self.map_.T - self.targets_[codes[rows]]) ** 2).sum())
            found.append((right / len(codes), -squares, float(alpha)))
        best = max(found)
        searched = [{"alpha": alpha, "score": score} for score, _, alpha in found]
        self.selection_ = {"on": "validation", "searched": searched, "chosen": {"alpha": best[2]}}
        self._keep(moments, best[2])

    def _keep(self, moments: ClassMoments, alpha: float) -> None:
        values, vectors = basis(moments)
        self.alpha_ = alpha
        self.map_ = ((self._cross(moments).T @ vectors) / (values + alpha)) @ vectors.T

    def _cross(self, moments: ClassMoments) -> FloatArray:
        """(D, T) sum over rows of row and target."""
        found: FloatArray = moments.sums.T @ self.targets_
        return found

    def _logits(self, X: Any) -> FloatArray:
        scores = unit(np.asarray(X, dtype=np.float64) @ self.map_.T) @ self.targets_.T / (self.temperature or 0.01)
        return scores if self.predict_unseen else np.where(self.class_count_ > 0, scores, -np.inf)


def basis(moments: ClassMoments) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues and vectors of the sum of f f' over rows, without those that are zero but for rounding."""
    values, vectors = np.linalg.eigh(moments.total() + moments.n_rows * np.outer(moments.mean, moments.mean))
    kept = values > len(values) * max(moments.rounding, np.finfo(np.float64).eps) * max(values[-1], 1e-300)
    return values[kept], vectors[:, kept]
