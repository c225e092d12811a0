"""What heads around an estimator of scikit-learn share: how it is built, kept without pickle, and read back."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.pipeline import make_pipeline

from probe.core import own_modules
from probe.core.errors import InputError
from probe.heads.shared.base import AnyHead, FloatArray
from probe.heads.shared.sklearn_types import estimator_class, is_part

EXAMPLES = {"classifier": "sklearn.svm.SVC", "regressor": "sklearn.svm.SVR"}


class SklearnFit(AnyHead):
    """A head around an estimator that its parameters name by import path; a list of paths is a pipeline.

    The fit is kept as skops (no pickle) inside the safetensors file. Reading it back makes objects of the types that
    skops trusts, of estimators and their parts (`probe.heads.shared.sklearn_types`) and of those that `trusted` names,
    nothing else, and no functions.

    Attributes:
        model_: The fitted estimator as skops bytes, uint8.
        trusted: Names of further classes and functions that a file may hold, such as `xgboost.sklearn.XGBClassifier`.
        wanted: What the estimator has to be: `classifier` or `regressor`.
    """

    trusted: ClassVar[tuple[str, ...]] = ()
    wanted: ClassVar[str] = "classifier"

    def __init__(
        self,
        estimator: str | Sequence[str] = "sklearn.svm.SVC",
        params: Mapping[str, Any] | None = None,
        random_state: int = 0,
    ):
        self.estimator = estimator
        self.params = params
        self.random_state = random_state

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

    def check_parameters(self) -> None:
        self._build()

    def _build(self) -> Any:
        """The unfitted estimator."""
        if importlib.util.find_spec("skops") is None:
            raise InputError("head sklearn keeps its fit with skops, which is not installed: pip install skops")
        paths = [self.estimator] if isinstance(self.estimator, str) else list(self.estimator)
        classes = [_class_at(path) for path in paths]
        steps = [kind() for kind in classes if isinstance(kind, type)]
        is_wanted = is_classifier if self.wanted == "classifier" else is_regressor
        if not steps or len(steps) < len(classes) or not is_wanted(steps[-1]):
            raise InputError(
                f"head.estimator is {self.estimator!r}, expected the import path of a {self.wanted}, or a list of "
                f"paths that ends with one: such as {EXAMPLES[self.wanted]}"
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

    def _keep(self, fitted: Any) -> None:
        """Keeps a fitted estimator, in memory and as bytes."""
        from skops import io

        self._fitted = fitted
        self.model_ = np.frombuffer(io.dumps(fitted), dtype=np.uint8)

    def _estimator(self) -> Any:
        """The fitted estimator."""
        return getattr(self, "_fitted", None) or self._read()

    def _read(self) -> Any:
        from skops import io

        data = self.model_.tobytes()
        types = io.get_untrusted_types(data=data)
        # Of the class: a file can set attributes of the instance.
        foreign = [name for name in types if name not in type(self).trusted and not is_part(name)]
        if foreign:
            raise InputError(
                f"the saved head holds {', '.join(foreign)}, expected estimators of scikit-learn and their parts: add "
                f"these names to {type(self).__name__}.trusted if you trust the file"
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


def in_memory(X: Any) -> FloatArray:
    """Rows as an array of float32, or float64 where they are."""
    rows = np.asarray(X)
    return rows if rows.dtype == np.float64 else rows.astype(np.float32)
