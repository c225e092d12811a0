"""Classifiers of scikit-learn as the parameters of `head=sklearn` that make the same one."""

from __future__ import annotations

import sys
from typing import Any

from probe.command.plain import plain
from probe.core.errors import InputError


def head_of(estimator: Any) -> dict[str, Any]:
    """`estimator` and `params` of `head=sklearn`, only those parameters that are not the default.

    Raises:
        InputError: A parameter is an object that no record could say, such as another estimator.
    """
    from sklearn.pipeline import Pipeline, make_pipeline

    if not isinstance(estimator, Pipeline):
        return {"estimator": path_of(type(estimator)), "params": _changed(estimator) or None}
    steps = [step for _, step in estimator.steps]
    if odd := next((step for step in steps if step is None or isinstance(step, str)), None):
        raise InputError(f"head is a pipeline with a step {odd!r}, expected estimators alone: leave the step out")
    params = {
        f"{name}__{key}": value
        for name, step in make_pipeline(*steps).steps
        for key, value in _changed(step).items()
    }  # fmt: skip
    return {"estimator": [path_of(type(step)) for step in steps], "params": params or None}


def path_of(kind: type) -> str:
    """The shortest import path of a class: `sklearn.svm.SVC` rather than `sklearn.svm._classes.SVC`."""
    words = kind.__module__.split(".")
    for n in range(1, len(words) + 1):
        module = ".".join(words[:n])
        if getattr(sys.modules.get(module), kind.__name__, None) is kind:
            return f"{module}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def _changed(estimator: Any) -> dict[str, Any]:
    kind = type(estimator)
    try:
        defaults = kind().get_params(deep=False)
    except TypeError as error:
        raise InputError(
            f"head is a {kind.__name__}, which cannot be made without arguments ({error}), as head=sklearn makes it: "
            "write a class of your own whose arguments have defaults"
        ) from error
    given = estimator.get_params(deep=False)
    changed = {}
    for name, value in given.items():
        if value is defaults[name]:
            continue
        if hasattr(value, "get_params"):
            raise InputError(
                f"head is a {kind.__name__} around a {type(value).__name__}, which no record could say: write a class "
                "of your own, a subclass that sets it in __init__, into a file and give that"
            )
        said = plain(value, f"{name} of {kind.__name__}")
        if said != plain(defaults[name], name):
            changed[name] = said
    return changed
