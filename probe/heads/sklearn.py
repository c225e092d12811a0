"""Any classifier or regressor of scikit-learn, or several steps of it, as a head."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from probe.heads.shared.base import AnyHead
from probe.heads.shared.head import FloatArray, Head, Validation
from probe.heads.shared.sklearn_fit import SklearnFit, in_memory
from probe.heads.shared.sklearn_numbers import SklearnNumbers

SMALLEST = 1e-300
"""Probabilities below it count as it, so that their logarithms are finite."""


class SklearnHead(SklearnFit, Head):
    """Fits a classifier named by its import path; a list of paths is a pipeline, the classifier last.

    Searches nothing: validation rows are further training rows. Rows are held in memory. Logits are the logarithms
    of `predict_proba`, else the decision function, else 0 for the predicted class and -1 for the others: only the
    first are made for log loss and calibration. Of numbers to predict it fits a regressor, see `SklearnNumbers`.

    The fit is kept as skops (no pickle) inside the safetensors file. Reading it back makes objects of the types that
    skops trusts, of estimators and their parts (`probe.heads.shared.sklearn_types`) and of those that `trusted` names,
    nothing else, and no functions.

    Args:
        estimator: Import path of a class, such as `sklearn.svm.SVC` or, of numbers, `sklearn.svm.SVR`; or a list.
        params: Parameters of the class, or of a pipeline as `make_pipeline` names them: `svc__C`. None: all default.
        random_state: Given to every step that has such a parameter, unless `params` does.

    Attributes:
        model_: The fitted estimator as skops bytes, uint8.
        trusted: Names of further classes and functions that a file may hold, such as `xgboost.sklearn.XGBClassifier`.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "number")

    def for_target(self, target: str) -> AnyHead:
        return SklearnNumbers(**self.get_params(deep=False)) if target == "number" else self

    @property
    def log_probabilities(self) -> bool:  # type: ignore[override]
        """Whether the estimator gives probabilities."""
        return hasattr(self._build(), "predict_proba")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), and on the validation rows too, as if they were one array."""
        estimator = self._build()
        parts = self._check_parts(X, y, validation)
        rows = np.concatenate([in_memory(part) for part, _ in parts])
        self._keep(estimator.fit(rows, np.concatenate([codes for _, codes in parts])))
        return self

    def _logits(self, X: Any) -> FloatArray:
        estimator, rows = self._estimator(), in_memory(X)
        if hasattr(estimator, "predict_proba"):
            found = np.log(np.maximum(estimator.predict_proba(rows).astype(np.float64), SMALLEST))
        elif hasattr(estimator, "decision_function"):
            found = np.asarray(estimator.decision_function(rows), dtype=np.float64)
            found = np.column_stack([np.zeros(len(rows)), found]) if found.ndim == 1 else found
        else:
            found = np.where(estimator.predict(rows)[:, None] == np.arange(len(self.classes_)), 0.0, -1.0)
        return found


def spelled(name: str) -> dict[str, str] | None:
    """The settings that an estimator of scikit-learn, taken for a head, stands for."""
    from sklearn.utils import all_estimators

    found = dict(all_estimators(["classifier", "regressor"])).get(name)
    return {"estimator": f"{'.'.join(p for p in found.__module__.split('.') if p[0] != '_')}.{name}"} if found else None
