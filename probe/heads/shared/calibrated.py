"""What a fitted head says for certain: probabilities that can be believed, and sets that hold the true class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from probe.core.errors import InputError

FloatArray = NDArray[np.floating[Any]]


class Calibrated:
    """What heads can do once a run with `calibrate=true` has measured them on rows that they were not fitted on.

    Attributes:
        temperature_: What logits are divided by before they become probabilities.
        held_out_scores_: (n,) 1 - probability of the label, of the held-out rows, before scaling.
        held_out_codes_: (n,) places of their labels in `classes_`; -1 for a class that no training row had.
    """

    classes_: NDArray[Any]
    temperature_: float
    held_out_scores_: NDArray[np.float64]
    held_out_codes_: NDArray[np.int64]

    def logits(self, X: Any) -> FloatArray:
        """(N, K) unnormalised log-probabilities."""
        raise NotImplementedError

    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities (N, K), columns in the order of `classes_`; of a calibrated head after temperature scaling."""
        from scipy.special import softmax

        return softmax(self._scaled_logits(X), axis=1)

    def predict_log_proba(self, X: Any) -> FloatArray:
        """Logarithms of `predict_proba`, (N, K), also of probabilities that are too small for a float."""
        from scipy.special import log_softmax

        return log_softmax(self._scaled_logits(X), axis=1)

    def _scaled_logits(self, X: Any) -> FloatArray:
        logits = self.logits(X)
        if hasattr(self, "temperature_"):
            logits = logits.astype(np.float32) / np.float64(self.temperature_)  # in the precision that a run scores
        return logits.astype(np.float64)

    def predict_set(self, X: Any, level: float = 0.9, class_conditional: bool = False) -> NDArray[np.bool_]:
        """Which classes the conformal set of each row holds, (N, K), columns in the order of `classes_`.

        The set holds the true class with probability `level` or more, on average over rows like the held-out ones,
        however bad the head is; a bad one has larger sets. See `probe.metrics.conformal` for the equation and its
        source.

        Args:
            X: Features.
            level: Between 0 and 1.
            class_conditional: Whether the level is to hold among the rows of each class by itself. A class with fewer
                than level / (1 - level) held-out rows is then in every set.

        Raises:
            InputError: The head is not calibrated, or on too few rows for the level.
        """
        from probe.metrics.conformal import check_level, prediction_sets, rows_needed, thresholds_of

        check_is_fitted(self)
        if not hasattr(self, "held_out_scores_"):
            raise InputError(
                f"this {type(self).__name__} is not calibrated: make the run with calibrate=true, and force=true where "
                "it is there without"
            )
        check_level(level)
        n_rows, n_needed = len(self.held_out_scores_), rows_needed(level)
        if n_rows < n_needed and not class_conditional:
            raise InputError(
                f"level is {level}, whose sets need {n_needed} held-out rows, {type(self).__name__} was calibrated on "
                f"{n_rows}: give a lower level, or train on more rows"
            )
        limits = thresholds_of(
            self.held_out_scores_, self.held_out_codes_, len(self.classes_), level, class_conditional=class_conditional
        )
        return prediction_sets(self.logits(X).astype(np.float32), limits)

    def keep_calibration(self, temperature: float, scores: FloatArray, labels: NDArray[Any]) -> None:
        """What a run found on held-out rows.

        Args:
            temperature: Fitted on their logits.
            scores: (n,) 1 - probability of the label.
            labels: (n,) of the rows.
        """
        self.temperature_ = temperature
        self.held_out_scores_ = np.asarray(scores, dtype=np.float64)
        self.held_out_codes_ = self._validation_codes(labels)

    def _validation_codes(self, y: Any) -> NDArray[np.int64]:
        raise NotImplementedError

    def _forget_calibration(self) -> None:
        """What held-out rows said of another fit says nothing of this one."""
        for name in ("temperature_", "held_out_scores_", "held_out_codes_"):
            self.__dict__.pop(name, None)
