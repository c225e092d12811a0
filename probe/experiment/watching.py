"""Heads on the features of a network that trains on: rows are drawn once, features are read in one pass per dataset."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from probe.core.abilities import MeasuresFeatures, Tapped
from probe.core.base import Backbone, IntArray
from probe.core.errors import DoesNotFit, InputError
from probe.core.intervals import Interval
from probe.core.targets import Target
from probe.experiment.fitting import fit_head, groups_to_balance, predict_run
from probe.experiment.identity import head_name, parts_of
from probe.experiment.layers import read_rows
from probe.experiment.reading import filled_in, sources
from probe.experiment.request import Drawn, Run
from probe.experiment.run import check, draw
from probe.features.one_pass import OnePass
from probe.metrics import evaluate
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import score
from probe.protocols.shared.tasks import ComesInTasks

if TYPE_CHECKING:
    from probe.features.store import FeatureStore


@dataclass(frozen=True)
class Found:
    """What one head finds in the features of one dataset.

    Attributes:
        metrics: On the test rows.
        extract_seconds: Of the pass that all heads of the dataset read.
        fit_seconds: Of the head, choice included.
    """

    metrics: Mapping[str, Interval]
    extract_seconds: float
    fit_seconds: float


def prepare(request: Run) -> Drawn:
    """The rows of a head, drawn once for all epochs.

    Raises:
        ProbeError: The parts do not fit each other, or the head does not fit a network that trains.
    """
    drawn = draw(check(request))
    if drawn.checked.asked.teacher is not None:
        raise DoesNotFit(f"head {head_name(request.head)} learns from a teacher, of which a network that trains has "
                         "none: choose another head")  # fmt: skip
    if isinstance(request.protocol, ComesInTasks):
        raise InputError(f"protocol {request.protocol.name} gives rows task by task, and each epoch is one fit: choose "
                         "another protocol")  # fmt: skip
    if request.dataset.target.per_pixel:
        raise InputError(f"dataset {request.dataset.name} has {request.dataset.target.phrase}, which no network is "
                         "watched on yet: watch it on a dataset of one class per row")  # fmt: skip
    return drawn


def metrics_of(target: Target, asked: Sequence[str] | None) -> list[str]:
    """The metrics asked for that suit a target; by default the one that tables show.

    Raises:
        InputError: None of them does.
    """
    suited = {m.name: m for m in known().values() if m.reads == "rows" and target.name in m.targets}
    chosen = [name for name, m in suited.items() if (m.shown if asked is None else name in asked)]
    if not chosen or set(asked or ()) - set(known()):
        raise InputError(f"metrics are {list(asked or ())}, expected some of {', '.join(suited)}: choose among these")
    return chosen


def watch_heads(
    heads: Mapping[str, Drawn],
    backbone: Backbone,
    metrics: Sequence[str],
    device: str,
    store: FeatureStore | None = None,
    *,
    guarded: bool = False,
) -> dict[str, Found]:
    """Fits heads on the features that a network has now, and scores their test rows.

    Args:
        heads: By name, all of one dataset.
        backbone: With the weights of now.
        metrics: Names of those wanted.
        device: Where all is computed.
        store: Keeps the features; None forgets them.
        guarded: As in `OnePass`.
    """
    rows, kinds = rows_of_all(heads.values()), [kind for drawn in heads.values() for kind in _kinds(drawn)]
    kinds = list(dict.fromkeys([*kinds, *(backbone.taps if isinstance(backbone, Tapped) else ())]))
    source: Any = store or OnePass(rows, kinds, guarded)
    asked = next(iter(heads.values())).checked.asked
    seconds = sum(
        source.get(backbone, asked.dataset, partition, kinds, device=device, **asked.features).seconds
        for partition in rows
    )
    found = {}
    for name, drawn in heads.items():
        measured, fit_seconds = _fit_and_score(_now(drawn, backbone, source, device), metrics)
        found[name] = Found(measured, seconds, fit_seconds)
    return found


def rows_of_all(heads: Any) -> dict[str, IntArray]:
    """The rows that any of several heads trains on, chooses on or tests on, by partition."""
    found = defaultdict(list)
    for drawn in heads:
        for rows in parts_of(drawn.split).values():
            found[rows.partition].append(rows.indices)
    return {partition: np.unique(np.concatenate(parts)) for partition, parts in found.items()}


def _kinds(drawn: Drawn) -> list[str]:
    """What is extracted for a head."""
    return [kind for kind, _ in sources(drawn.checked.head.consumes, drawn.checked.asked.reads)]


def _now(drawn: Drawn, backbone: Backbone, store: Any, device: str) -> Drawn:
    """The same rows, with the weights of now."""
    asked = replace(drawn.checked.asked, backbone=backbone, store=store, device=device)
    checked = replace(drawn.checked, asked=asked, head=filled_in(asked.head, backbone, asked))
    return replace(drawn, checked=checked)


def _fit_and_score(drawn: Drawn, metrics: Sequence[str]) -> tuple[Mapping[str, Interval], float]:
    dataset = drawn.checked.asked.dataset
    rows = read_rows(drawn)
    started = time.perf_counter()
    unfitted = clone(drawn.checked.head).for_target(dataset.target.name)
    head = fit_head(unfitted, rows, groups_to_balance(drawn, rows))
    seconds = time.perf_counter() - started
    if isinstance(head, MeasuresFeatures):
        _, measures = predict_run(head, drawn, rows)
        shown = [m for m in known().values() if m.reads in measures and (m.shown or m.name in metrics)]
        return evaluate.measure(measures, shown).metrics, seconds
    outputs = dataset.target.outputs(head, rows.test.X, len(dataset.class_names))
    scores = score(outputs, rows.test.y, dataset.target.name)
    return evaluate.measure({"rows": scores}, [known()[name] for name in metrics]).metrics, seconds
