"""What heads of several labels per row share: targets (N, K), log-odds, and labels where these are above 0."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.core.targets.labels import Labels, is_matrix
from probe.heads.shared.head import FloatArray, Head


class SeveralLabels(Head):
    """Base class, also beside that of a head of one class: its codes (N,) are then targets (N, K).

    Attributes:
        classes_: (K,) numbers of the labels.
        codes_dtype: Of the targets in its hands.
    """

    fits: ClassVar[tuple[str, ...]] = ("labels",)
    codes_dtype: ClassVar[Any] = np.int64

    def _targets(self, y: ArrayLike, n_rows: int) -> IntArray:
        """(N, K) zeros and ones, -1 where a label is unknown and the head `reads_unknown`."""
        targets = plain_array(y, "y")
        if not is_matrix(targets, n_rows, unknown=self.reads_unknown):
            raise InputError(
                f"y has shape {targets.shape} for {n_rows} rows, expected (rows, labels) of zeros and ones with at "
                "least 2 labels: give one column per label"
            )
        codes: IntArray = targets.astype(self.codes_dtype)
        return codes

    def _check_labels(self, y: ArrayLike, n_rows: int) -> IntArray:
        targets = self._targets(y, n_rows)
        self.classes_ = np.arange(targets.shape[1])
        return targets

    def _validation_codes(self, y: ArrayLike) -> IntArray:
        return self._targets(y, len(np.asarray(y)))

    def _strata(self, codes: IntArray) -> IntArray:
        """The rarest label of each row."""
        return Labels().strata(codes)

    def _learnable(self, codes: IntArray) -> NDArray[np.bool_]:
        """Every row says something."""
        return np.ones(len(codes), dtype=bool)

    def decision_function(self, X: Any) -> FloatArray:
        """(N, K) log-odds."""
        return self.logits(X)

    def predict_proba(self, X: Any) -> FloatArray:
        """(N, K) probability of each label."""
        return expit(self.logits(X).astype(np.float64))

    def predict_log_proba(self, X: Any) -> FloatArray:
        """(N, K) logarithms of these."""
        return log_expit(self.logits(X).astype(np.float64))

    def predict(self, X: Any) -> NDArray[Any]:
        """(N, K) zeros and ones: labels whose log-odds are above 0."""
        return (self.logits(X) > 0).astype(np.int64)
