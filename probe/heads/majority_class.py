"""The most frequent class: what is known without looking at a row."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.given import plain_array
from probe.core.targets.labels import is_matrix
from probe.heads.shared.head import FloatArray, Head, Validation


class MajorityClass(Head):
    """Gives every row the frequencies of the classes among the training rows, whatever its features are.

    The logit of class k is log(n_k / N). Of several labels per row it is the log-odds of the counts, each half a row
    larger: log((n_k + 1/2) / (N_k - n_k + 1/2)), N_k the rows of which it is known. Validation rows are
    further training rows.

    Attributes:
        log_odds_: (K,) the logits of every row.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "labels")
    reads_unknown: ClassVar[bool] = True
    control: ClassVar[str] = "majority"
    log_odds_: NDArray[np.float64]

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Counts the labels (N,), or (N, K) zeros and ones, -1 where a label is unknown."""
        if y is not None and is_matrix(targets := plain_array(y, "y"), len(targets), unknown=True):
            self._check_rows(X, reset=True)
            labels = np.concatenate([targets, *([] if validation is None else [plain_array(validation[1], "y")])])
            self.classes_ = np.arange(labels.shape[1])
            self.log_odds_ = np.log(((labels == 1).sum(axis=0) + 0.5) / ((labels == 0).sum(axis=0) + 0.5))
            return self
        parts = self._check_parts(X, y, validation)
        counts = sum(np.bincount(codes, minlength=len(self.classes_)) for _, codes in parts)
        self.log_odds_ = np.log(counts / np.sum(counts))
        return self

    def _logits(self, X: Any) -> FloatArray:
        return np.tile(self.log_odds_, (len(X), 1))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags
