"""What heads of classes share: a scikit-learn classifier that gives one logit per class."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.given import plain, plain_array
from probe.core.magnitudes import check_features
from probe.heads.shared import saving
from probe.heads.shared.base import N_AXES as N_AXES
from probe.heads.shared.base import AnyHead, FloatArray, Validation
from probe.heads.shared.base import check_lazy as check_lazy
from probe.heads.shared.base import is_lazy as is_lazy
from probe.heads.shared.calibrated import Calibrated


class Head(Calibrated, ClassifierMixin, AnyHead):
    """Base class of the heads that fit classes: a subclass implements `fit` and `_logits(X)`, see `AnyHead`."""

    fits: ClassVar[tuple[str, ...]] = ("one_class",)

    def _check_labels(self, y: ArrayLike, n_rows: int) -> IntArray:
        """Sets `classes_` and returns class codes, (N,) int64."""
        y = plain(y, "y")
        labels = np.asarray(y)
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            row = int(np.argmin(np.isfinite(labels.ravel())))
            raise InputError(f"y holds {labels.ravel()[row]} in row {row}: labels must be finite, drop that row")
        with warnings.catch_warnings():
            # One row per class is a fair draw here, no sign of a regression.
            warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
            check_classification_targets(y)
        if labels.shape[1:] == (1,):
            from sklearn.exceptions import DataConversionWarning

            warnings.warn(
                "A column-vector y was passed when a 1d array was expected", DataConversionWarning, stacklevel=3
            )
            labels = labels.ravel()
        if len(labels) != n_rows:
            raise InputError(f"X has {n_rows} rows and y {len(labels)}: give one label per row")
        if labels.ndim > 1:
            able = type(self).__name__ if "labels" in self.fits else "LinearProbe"
            raise InputError(
                f"y has shape {labels.shape}, {type(self).__name__} fits one class per row, (N,): give that, or fit "
                f"several labels per row with {able}().for_target('labels')"
            )
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"y holds one class only ({self.classes_[0]!r}), a classifier needs at least 2 classes: give more rows"
            )
        return codes.astype(np.int64)

    def _check_fit(self, X: Any, y: ArrayLike) -> tuple[Any, IntArray]:
        if y is None:
            raise InputError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = self._check_rows(X, reset=True)
        check_features(X)
        return X, self._check_labels(y, len(X))

    def _check_parts(self, X: Any, y: ArrayLike, validation: Validation | None) -> list[tuple[Any, IntArray]]:
        """Checked rows and class codes of the training rows, then of the validation rows if there are any.

        `classes_` comes from both, so that fitting on the parts equals fitting on their concatenation.
        """
        X, codes = self._check_fit(X, y)
        if validation is None:
            return [(X, codes)]
        X_validation = self._check_rows(validation[0], reset=False)
        y_train, y_validation = (plain_array(part, "y").ravel() for part in (y, validation[1]))
        if len(X_validation) != len(y_validation):
            raise InputError(
                f"X has {len(X_validation)} validation rows and y {len(y_validation)}: give one label per row"
            )
        codes = self._check_labels(np.concatenate([y_train, y_validation]), len(y_train) + len(y_validation))
        return [(X, codes[: len(y_train)]), (X_validation, codes[len(y_train) :])]

    def _validation_codes(self, y: ArrayLike) -> IntArray:
        """Codes of validation labels under `classes_`; -1 for a class that no training row has."""
        labels = plain_array(y, "y")
        codes = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        return np.where(self.classes_[codes] == labels, codes, -1).astype(np.int64)

    def _logits(self, X: Any) -> FloatArray:
        """(N, K) scores of a chunk of checked rows, in the order of `classes_`."""
        raise NotImplementedError

    def logits(self, X: Any) -> FloatArray:
        """Unnormalised log-probabilities, (N, K), columns in the order of `classes_`; K = 2 has two columns too."""
        return self._in_chunks(X, self._logits)

    def decision_function(self, X: Any) -> FloatArray:
        """As in scikit-learn: (N, K) scores, or the (N,) difference of the two where K = 2."""
        scores = self.logits(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        if type(self).logits is not Head.logits:
            return self.classes_[self.logits(X).argmax(axis=1)]
        codes = self._in_chunks(X, lambda rows: self._logits(rows).argmax(axis=1))
        return self.classes_[codes]

    @classmethod
    def load(cls, path: str | Path) -> Any:
        """Reads a head that `save` wrote; refuses files of another class. `Head.load` reads those of numbers too."""
        return saving.load(AnyHead if cls is Head else cls, path)
