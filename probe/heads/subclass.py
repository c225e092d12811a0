"""Classes cut into subclasses about as large as the smallest class: a rule with several pieces per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from probe.core.arrays import RowStack
from probe.core.errors import InputError
from probe.heads.shared.clusters import cosine_clusters, n_clusters
from probe.heads.shared.head import FloatArray, Head, Validation, check_lazy
from probe.heads.shared.logistic import penalties
from probe.heads.shared.multinomial import MultinomialPath

RULES = ("mean", "probe")


class Subclasses(Head):
    """Cuts class k into m_k = max(1, floor(n_k / max(n_min, least))) clusters by cosine, and tells these apart.

    With n_min the rows of the smallest class. `mean`: the score of a subclass s is x.mu_s - |mu_s|^2 / 2, of a class
    the largest of its subclasses: with m_k = 1 the nearest class mean. `probe`: logits of a logistic regression on the
    subclasses, of a class log sum exp over its subclasses. Validation rows are further training rows. All rows are held
    in memory, in float64.

    Source: Hou, Zhang, Wang, Zhou, "Subclass-balancing Contrastive Learning for Long-tailed Recognition", 2023, arXiv
    2306.15925: its clusters, on the features of a frozen backbone.

    Args:
        rule: `mean` or `probe`.
        least: Rows of a subclass at the least.
        Cs: Inverse penalties that the probe chooses from, on a tenth of the rows, or how many between 1e-4 and 1e4.
        random_state: Of the rows that clusters start from.

    Attributes:
        class_of_: (S,) place in `classes_` of each subclass.
        centroids_: (S, D) means of the subclasses.
        coef_, intercept_: (S, D) and (S,) of the scores of subclasses.
    """

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    def __init__(
        self, rule: str = "mean", least: int = 10, Cs: int | Sequence[float] = 10, random_state: int | None = 0
    ):
        self.rule = rule
        self.least = least
        self.Cs = Cs
        self.random_state = random_state

    def check_parameters(self) -> None:
        wrong = []
        if self.rule not in RULES:
            wrong.append(f"rule is {self.rule!r}, expected {' or '.join(RULES)}")
        if not self.least >= 1:
            wrong.append(f"least is {self.least!r}, expected 1 or more")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")
        penalties(self.Cs)

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), and on the validation rows too, as if they were one array."""
        parts = self._check_parts(X, y, validation)
        self.check_parameters()
        for part, _ in parts:
            check_lazy(part)
        rows = np.asarray(RowStack([part for part, _ in parts])[:], dtype=np.float64)
        codes, random = np.concatenate([part for _, part in parts]), np.random.default_rng(self.random_state)
        subclass, class_of, centroids = np.zeros(len(codes), dtype=np.int64), list[int](), list[Any]()
        for k, n in enumerate(n_clusters(np.bincount(codes, minlength=len(self.classes_)), self.least)):
            own = np.flatnonzero(codes == k)
            places, centres = cosine_clusters(rows[own], random.permutation(len(own))[:n])
            kept, places = np.unique(places, return_inverse=True)
            subclass[own] = len(class_of) + places
            class_of += [k] * len(kept)
            centroids += list(centres[kept])
        self.class_of_, self.centroids_ = np.array(class_of), np.stack(centroids)
        if self.rule == "mean":
            self.coef_, self.intercept_ = self.centroids_, -(self.centroids_**2).sum(axis=1) / 2
            return self
        path = MultinomialPath(self.Cs, random_state=self.random_state, device="cpu").fit(rows, subclass)
        if hasattr(path, "selection_"):
            self.selection_ = path.selection_
        self.coef_, self.intercept_ = (
            path.coef_.astype(np.float64, copy=False),
            path.intercept_.astype(np.float64, copy=False),
        )
        if len(self.coef_) == 1:
            self.coef_ = np.vstack([np.zeros_like(self.coef_), self.coef_])
            self.intercept_ = np.append(0.0, self.intercept_)
        return self

    def _logits(self, X: Any) -> FloatArray:
        scores = np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_
        found = np.empty((len(scores), len(self.classes_)))
        for k in range(len(self.classes_)):
            own = scores[:, self.class_of_ == k]
            found[:, k] = own.max(axis=1) if self.rule == "mean" else logsumexp(own, axis=1)
        return found
