"""Any classifier of scikit-learn, or several steps of it, as a head."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.pipeline import make_pipeline

from probe.core import own_modules
from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Head, Validation
from probe.heads.shared.sklearn_types import estimator_class, is_part

SMALLEST = 1e-300
"""Probabilities below it count as it, so that their logarithms are finite."""


class SklearnHead(Head):
    """Fits a classifier named by its import path; a list of paths is a pipeline, the classifier last.

    Searches nothing: validation rows are further training rows. Rows are held in memory. Logits are the logarithms
    of `predict_proba`, else the decision function, else 0 for the predicted class and -1 for the others: only the
    first are made for log loss and calibration.

    The fit is kept as skops (no pickle) inside the safetensors file. Reading it back makes objects of the types that
    skops trusts, of estimators and their parts (`probe.heads.shared.sklearn_types`) and of those that `trusted` names,
    nothing else, and no functions.

    Args:
        estimator: Import path of a class, such as `sklearn.svm.SVC`, or a list of them.
        params: Parameters of the class, or of a pipeline as `make_pipeline` names them: `svc__C`. None: all default.
        random_state: Given to every step that has such a parameter, unless `params` does.

    Attributes:
        model_: The fitted estimator as skops bytes, uint8.
        trusted: Names of further classes and functions that a file may hold, such as `xgboost.sklearn.XGBClassifier`.
    """

    trusted: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        estimator: str | Sequence[str] = "sklearn.svm.SVC",
        params: Mapping[str, Any] | None = None,
        random_state: int = 0,
    ):
        self.estimator = estimator
        self.params = params
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on X (N, D) and y (N,), and on the validation rows too, as if they were one array."""
        from skops import io

        estimator = self._build()
        parts = self._check_parts(X, y, validation)
        rows = np.concatenate([_in_memory(part) for part, _ in parts])
        self._fitted = estimator.fit(rows, np.concatenate([codes for _, codes in parts]))
        self.model_ = np.frombuffer(io.dumps(self._fitted), dtype=np.uint8)
        return self

    @staticmethod
    def runs_code(parameters: Mapping[str, Any]) -> list[str]:
        """Which of its parameters run code, for `probe.command.recorded`: all but estimators of scikit-learn.

        A `memory` is a folder of pickles.
        """
        given = parameters.get("estimator")
        paths = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        params = parameters.get("params")
        names = list(params) if isinstance(params, Mapping) else []
        foreign = [f"estimator={path}" for path in paths if not isinstance(path, str) or not estimator_class(path)]
        return foreign + [f"params.{name}" for name in names if str(name).rpartition("__")[2] == "memory"]

    def named_classes(self) -> list[type]:
        """The estimators."""
        paths = [self.estimator] if isinstance(self.estimator, str) else list(self.estimator)
        return [_class_at(path) for path in paths]

    @property
    def log_probabilities(self) -> bool:  # type: ignore[override]
        """Whether the estimator gives probabilities."""
        return hasattr(self._build(), "predict_proba")

    def check_parameters(self) -> None:
        self._build()

    def _build(self) -> Any:
        """The unfitted estimator."""
        if importlib.util.find_spec("skops") is None:
            raise InputError("head sklearn keeps its fit with skops, which is not installed: pip install skops")
        paths = [self.estimator] if isinstance(self.estimator, str) else list(self.estimator)
        classes = [_class_at(path) for path in paths]
        steps = [kind() for kind in classes if isinstance(kind, type)]
        if not steps or len(steps) < len(classes) or not is_classifier(steps[-1]):
            raise InputError(
                f"head.estimator is {self.estimator!r}, expected the import path of a classifier, or a list of paths "
                "that ends with one: such as sklearn.svm.SVC"
            )
        estimator = steps[0] if isinstance(self.estimator, str) else make_pipeline(*steps)
        seeds = [name for name in estimator.get_params() if name.rpartition("__")[2] == "random_state"]
        try:
            return estimator.set_params(**dict.fromkeys(seeds, self.random_state) | dict(self.params or {}))
        except (ValueError, TypeError) as error:
            raise InputError(
                f"head.params is {dict(self.params or {})}, which {self.estimator} does not take: choose among "
                f"{', '.join(name for name in estimator.get_params() if name not in ('steps', 'memory', 'verbose'))}"
            ) from error

    def _logits(self, X: Any) -> FloatArray:
        estimator, rows = getattr(self, "_fitted", None) or self._read(), _in_memory(X)
        if hasattr(estimator, "predict_proba"):
            found = np.log(np.maximum(estimator.predict_proba(rows).astype(np.float64), SMALLEST))
        elif hasattr(estimator, "decision_function"):
            found = np.asarray(estimator.decision_function(rows), dtype=np.float64)
            found = np.column_stack([np.zeros(len(rows)), found]) if found.ndim == 1 else found
        else:
            found = np.where(estimator.predict(rows)[:, None] == np.arange(len(self.classes_)), 0.0, -1.0)
        return found

    def _read(self) -> Any:
        from skops import io

        data = self.model_.tobytes()
        types = io.get_untrusted_types(data=data)
        # Of the class: a file can set attributes of the instance.
        foreign = [name for name in types if name not in SklearnHead.trusted and not is_part(name)]
        if foreign:
            raise InputError(
                f"the saved head holds {', '.join(foreign)}, expected estimators of scikit-learn and their parts: add "
                "these names to SklearnHead.trusted if you trust the file"
            )
        return io.loads(data, trusted=types)


def _class_at(path: str) -> Any:
    module, _, name = path.rpartition(".")
    own_modules.find(module)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"head.estimator names {path!r}, which cannot be imported ({error}{own_modules.shadowed(module)}): "
            "give the path of a class, such as sklearn.svm.SVC"
        ) from error


def _in_memory(X: Any) -> FloatArray:
    """Rows as an array of float32, or float64 where they are."""
    rows = np.asarray(X)
    return rows if rows.dtype == np.float64 else rows.astype(np.float32)
