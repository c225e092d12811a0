"""The fitted head of a run, and what it says of the test rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from probe.core.abilities import MeasuresFeatures
from probe.core.base import IntArray, Rows
from probe.core.targets.number_map import NumberMap
from probe.experiment.choice import Chosen, chosen_on
from probe.experiment.choosing import fit
from probe.experiment.dense import errors, prediction, tallies
from probe.experiment.halving import fit_by_halving
from probe.experiment.outputs import outputs_of
from probe.experiment.reading import ReadRows
from probe.experiment.request import Checked, Drawn, Named
from probe.experiment.tasks import TaskByTask, fit_tasks
from probe.experiment.teacher import teach
from probe.heads.shared.base import AnyHead
from probe.protocols.shared.groups import groups_among, groups_of
from probe.protocols.shared.tasks import ComesInTasks

NO_EXTRAS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Fitted:
    """A fitted head and what it says of the test rows.

    Attributes:
        unfitted: The same head as it was before.
        logits: What it says of them, as the target of the dataset has it: logits (N, K) over all classes, or means, or
            where pixels have labels a tally of each image (`probe.metrics.shared.scores.mask.ImageTally`, or
            `….number_map.ImageErrors`); None of what predicts nothing.
        scores: Of what predicts nothing: its measures of the test rows, by the name under which metrics read them.
        chosen: What it said of the rows that it was chosen on, where it was.
        tasks: Where the training rows came in tasks: what it knew after each.
        seconds: For `fit` and `predict`.
        maps: Where pixels have labels: from the place of a test row to what is predicted for them, (H, W).
    """

    unfitted: AnyHead
    head: AnyHead
    logits: Any
    scores: Mapping[str, Any]
    chosen: Chosen | None
    tasks: TaskByTask | None
    seconds: Mapping[str, float]
    maps: Callable[[int], NDArray[Any]] | None = None


def fit_run(named: Named, rows: ReadRows) -> Fitted:
    """Fits the head of a run on its training rows, all at once or task by task, and predicts the test rows."""
    drawn, asked = named.drawn, named.drawn.checked.asked
    clocks = [time.perf_counter()]
    unfitted, tasks, extras = with_prompts(drawn.checked, rows.test.rows), None, {}
    head, target, n_classes = clone(unfitted), asked.dataset.target, len(asked.dataset.class_names)
    if isinstance(asked.protocol, ComesInTasks):
        tasks = fit_tasks(head, asked, rows)
    else:
        extras = teach(asked, drawn.split, named.determinants["protocol"]["rows"]) | groups_to_balance(drawn, rows)
        head = head.for_target(target.name)
        if asked.search:
            train, validation = (rows.train.X, rows.train.y), (rows.validation.X, rows.validation.y)
            head = fit_by_halving(head, train, validation, extras, asked.seed)
        else:
            head = fit_head(head, rows, extras)
    clocks.append(time.perf_counter())
    logits, scores = predict_run(head, drawn, rows)
    clocks.append(time.perf_counter())
    seconds = dict(zip(("fit", "predict"), np.diff(clocks).tolist(), strict=True))
    chosen = None if tasks else chosen_on(head, rows, extras, target, n_classes)
    return Fitted(unfitted, head, logits, scores, chosen, tasks, seconds, maps_of(head, rows))


def maps_of(head: AnyHead, rows: ReadRows) -> Callable[[int], NDArray[Any]] | None:
    """What a fitted head says of the pixels of a test image, by its place; None where pixels have no labels."""
    return None if rows.test.places is None else partial(prediction, head, rows.test)


def predict_run(head: AnyHead, drawn: Drawn, rows: ReadRows) -> tuple[Any, Mapping[str, Any]]:
    """What a fitted head says of the test rows, or measures of them."""
    asked = drawn.checked.asked
    n_classes = len(asked.dataset.class_names)
    if not isinstance(head, MeasuresFeatures):
        if rows.test.places is not None:
            target = (drawn.elsewhere.dataset if drawn.elsewhere else asked.dataset).target
            if isinstance(target, NumberMap):
                return errors(head, rows.test, target), {}
            return tallies(head, rows.test, n_classes), {}
        return outputs_of(head, rows.test.X, asked.dataset.target, n_classes), {}
    tested = groups_of(asked.test_on or asked.dataset, "test" if asked.test_on else drawn.split.test.partition)
    groups = None if tested is None else tested[rows.test.rows]
    return None, head.measure(rows.test.X, rows.test.y, groups, asked.dataset.target.name)


def groups_to_balance(drawn: Drawn, rows: ReadRows) -> dict[str, Any]:
    """The groups of the training rows, as an argument of `fit`; nothing where the head balances none."""
    if not drawn.checked.head.balances_groups:
        return {}
    return {"groups": groups_among(drawn.checked.asked.dataset, Rows(drawn.split.train.partition, rows.train.rows))}


def fit_head(head: AnyHead, rows: ReadRows, extras: Mapping[str, Any] = NO_EXTRAS) -> AnyHead:
    """Fits a head on the training rows of a run, and has it choose on what there is to choose on."""
    validation = rows.validation.X, rows.validation.targets
    return fit(head, (rows.train.X, rows.train.targets), validation, rows.train.in_views(rows.folds), extras)


def with_prompts(checked: Checked, tests: IntArray) -> AnyHead:
    """The head, with the features of its texts where it reads some: of its classes, or of the rows that test."""
    if checked.prompts is None:
        return checked.head
    head: AnyHead = clone(checked.head)
    asked = checked.asked
    progress = asked.features.get("progress", True)
    asks = head.get_params(deep=False)
    filled = checked.prompts.filled_in(asks, asked.store, asked.device, tests, progress=progress)
    return head.set_params(**filled)
