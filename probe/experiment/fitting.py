"""How a head is fitted on the rows of a split: with validation rows, or on folds where the training rows are few."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.experiment.reading import ReadRows
from probe.experiment.request import Checked, Named
from probe.experiment.tasks import TaskByTask, fit_tasks
from probe.experiment.teacher import teach
from probe.heads.shared.head import Head
from probe.protocols.shared.tasks import ComesInTasks


@dataclass(frozen=True)
class Fitted:
    """A fitted head and what it says of the test rows.

    Attributes:
        unfitted: The same head as it was before.
        logits: (N, K) over all classes of the dataset.
        tasks: Where the training rows came in tasks: what it knew after each.
        seconds: For `fit` and `predict`.
    """

    unfitted: Head
    head: Head
    logits: NDArray[np.float32]
    tasks: TaskByTask | None
    seconds: Mapping[str, float]


def fit_run(named: Named, rows: ReadRows) -> Fitted:
    """Fits the head of a run on its training rows, all at once or task by task, and predicts the test rows."""
    drawn, asked = named.drawn, named.drawn.checked.asked
    clocks = [time.perf_counter()]
    unfitted, tasks = with_prompts(drawn.checked), None
    head, target = clone(unfitted), asked.dataset.target
    if isinstance(asked.protocol, ComesInTasks):
        tasks = fit_tasks(head, asked, rows)
    else:
        extras = teach(asked, drawn.split, named.determinants["protocol"]["rows"])
        head = fit(
            head.for_target(target.name),
            (rows.train.X, rows.train.y),
            (rows.validation.X, rows.validation.y),
            rows.folds,
            extras,
        )
    clocks.append(time.perf_counter())
    logits = target.outputs(head, rows.test.X, len(asked.dataset.class_names))
    clocks.append(time.perf_counter())
    return Fitted(unfitted, head, logits, tasks, dict(zip(("fit", "predict"), np.diff(clocks).tolist(), strict=True)))


def with_prompts(checked: Checked) -> Head:
    """The head, with the features of the texts of its classes where it reads texts."""
    if checked.prompts is None:
        return checked.head
    head: Head = clone(checked.head)
    texts = checked.prompts.class_features(checked.asked.store, checked.asked.device)
    return head.set_params(class_features=texts, temperature=checked.prompts.temperature)


def fit(head: Head, train: Any, validation: Any, folds: IntArray | None, extras: Mapping[str, Any]) -> Head:
    """Fits a head and returns it.

    Args:
        head: Unfitted.
        train: Features and labels of the training rows.
        validation: Features and labels of the validation rows; labels may be empty.
        folds: Fold of each training row that is held out to choose on, -1 for never; None where validation rows or
            nothing serve that.
        extras: Further arguments of `fit`, such as teacher logits.
    """
    X, y = train
    try:
        if folds is not None and len(np.unique(folds[folds >= 0])) > 1:
            return fit_on_folds(head, X, y, folds, extras)
        return head.fit(X, y, validation=validation if len(validation[1]) else None, **extras)
    except RuntimeError as error:
        # By its name: heads without torch do not wait for its import.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        raise InputError(
            f"the GPU ran out of memory while {type(head).__name__} was fitted on {len(y)} rows: run fewer jobs on it "
            "at once, or set device=cpu"
        ) from error


def fit_on_folds(head: Head, X: Any, y: IntArray, folds: IntArray, extras: Mapping[str, Any]) -> Head:
    """Chooses by the mean score over the folds, then fits what was chosen on all rows.

    A head that searches nothing is fitted on all rows at once. Each fold is searched with the head's own means: its
    `selection_` names candidates, and a candidate `{"C": 0.1}` is fixed by the parameter `Cs=[0.1]`.
    """
    scores: defaultdict[str, list[float]] = defaultdict(list)
    candidates: dict[str, dict[str, Any]] = {}
    parameters = head.get_params(deep=False)
    # Nothing is taken from the other folds by a refit, which would only cost time.
    quick = {"refit": False} if "refit" in parameters else {}
    splits = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in np.unique(folds[folds >= 0])]
    for trial in clone(head).set_params(**quick).fit_splits(X, y, splits, **extras):
        selection = getattr(trial, "selection_", None)
        if selection is None or selection["on"] != "validation":
            return head.fit(X, y, **extras)
        for candidate in selection["searched"]:
            values = {key: value for key, value in candidate.items() if key in selection["chosen"]}
            candidates[str(values)] = values
            scores[str(values)].append(candidate["score"])
    means = {key: float(np.mean(values)) for key, values in scores.items()}
    # Few rows leave many ties, often between all candidates: the middle one, not an end of the grid.
    tied = [key for key, mean in means.items() if mean > max(means.values()) - 1e-9]
    best = tied[(len(tied) - 1) // 2]
    fixed = {name if name in parameters else f"{name}s": value for name, value in candidates[best].items()}
    fixed = {name: value if name in candidates[best] else [value] for name, value in fixed.items()}
    fitted = clone(head).set_params(**fixed).fit(X, y, **extras)
    fitted.selection_ = {
        "on": f"{len(np.unique(folds[folds >= 0]))} folds of the training rows",
        "searched": [values | {"score": means[key]} for key, values in candidates.items()],
        "chosen": candidates[best],
    }
    return fitted
