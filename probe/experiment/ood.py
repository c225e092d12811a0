"""Rows of unknown classes beside a run: how well what is known tells them from the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.abilities import MeasuresFeatures
from probe.core.base import Dataset, IntArray, Rows, digest
from probe.core.errors import DoesNotFit, InputError
from probe.core.rows import check_rows
from probe.core.texts import one_spelling
from probe.experiment.identity import describe_readers, head_name
from probe.experiment.reading import ReadRows, fetch, select
from probe.experiment.transfer import PARTITION
from probe.metrics.evaluate import measure
from probe.metrics.ood import METRICS, Detection
from probe.metrics.shared.metric import QUALIFIER, Measured
from probe.ood.shared.score import Known, recipes, scores
from probe.ood.shared.score import Rows as RowsToScore
from probe.protocols.shared.checks import listing
from probe.protocols.shared.groups import groups_of

if TYPE_CHECKING:
    from probe.experiment.fitting import Fitted
    from probe.experiment.request import Drawn, Run


def check_ood(request: Run) -> None:
    """Refuses sets of unknown classes that hold known ones, or cannot be read, and heads that tell no classes."""
    if not request.ood:
        return
    head, own = request.head, request.dataset
    if not own.target.exclusive or isinstance(head, MeasuresFeatures):
        what = f"head {head_name(head)} predicts nothing" if own.target.exclusive else f"it has {own.target.phrase}"
        raise DoesNotFit(
            f"ood asks of which class of dataset {own.name} a row is, if of any, and {what}: leave ood out"
        )
    known = {one_spelling(name) for name in own.class_names}
    for name, other in request.ood.items():
        if PARTITION not in other.partitions:
            raise InputError(
                f"dataset {other.name} has no partition test, only {sorted(other.partitions)}: give one to ood that has"
            )
        tested = _tested_classes(other)
        if shared := [one for one in tested if one_spelling(one) in known]:
            raise InputError(
                f"ood set {name}, dataset {other.name}, tests {listing(shared)} that dataset {own.name} knows: give "
                "one whose classes are none of these, or leave their rows out"
            )
        check_rows(request.backbone, other)


def _tested_classes(dataset: Dataset) -> list[str]:
    """Names of the classes that test rows have; none where labels are numbers."""
    labels = np.asarray(dataset.partitions[PARTITION].labels)
    if dataset.target.name == "number":
        return []
    counts = dataset.target.counts(labels, len(dataset.class_names))
    return [name for name, count in zip(dataset.class_names, counts, strict=True) if count]


def describe_ood(sets: Mapping[str, Dataset]) -> dict[str, Any]:
    """What of the sets, and of the scores, determines a run; nothing where there are none."""
    if not sets:
        return {}
    told = {name: {"name": other.name, "fingerprint": other.fingerprint} for name, other in sets.items()}
    for name, other in sets.items():
        if code := describe_readers(other, None).get(PARTITION):
            told[name]["read_by"] = code
        if (groups := groups_of(other, PARTITION)) is not None:
            told[name]["groups"] = digest(groups.tolist())
    words = recipes()
    return {"ood": {"sets": told, **({"scores": words} if words else {})}}


def detect(drawn: Drawn, rows: ReadRows, fitted: Fitted) -> tuple[Measured, dict[str, Any]]:
    """Every measure of every score on every set, and for the record what was scored and what could not be."""
    asked = drawn.checked.asked
    if not asked.ood:
        return Measured(), {}
    known = Known(rows.train.X, rows.train.y, fitted.head)
    left_out = {name: lack for name, score in scores().items() if (lack := score.lacks(known))}
    fits = {name: score.fit(known) for name, score in scores().items() if name not in left_out}
    inside = RowsToScore(rows.test.X, known.logits(rows.test.X))
    of_known = {name: score(inside) for name, score in fits.items()}
    tested = asked.test_on or asked.dataset
    own = _numbered(groups_of(tested, drawn.split.test.partition), rows.test.rows)
    found, sizes = Measured(), dict[str, int]()
    for place, dataset in asked.ood.items():
        X, chosen = _features(asked, place, dataset, rows)
        theirs = _numbered(groups_of(dataset, PARTITION), chosen)
        outside, sizes[place] = RowsToScore(X, known.logits(X)), len(X)
        for name, score in fits.items():
            part = Detection(of_known[name], score(outside), known_groups=own, unknown_groups=theirs)
            measured = measure({"ood": part}, METRICS)
            found.metrics |= {f"{metric}{QUALIFIER}{place}.{name}": one for metric, one in measured.metrics.items()}
            found.rows |= {f"{metric}{QUALIFIER}{place}.{name}": one for metric, one in measured.rows.items()}
    return found, {"ood_rows": {"n_known": len(rows.test.y), "n_unknown": sizes, "left_out": left_out}}


def _numbered(groups: IntArray | None, rows: IntArray) -> IntArray | None:
    """The groups of some rows, from 0 on."""
    return None if groups is None else np.unique(groups[rows], return_inverse=True)[1].ravel()


def _features(asked: Run, place: str, dataset: Dataset, rows: ReadRows) -> tuple[Any, IntArray]:
    """What the head reads of the test rows of a set, and which these are."""
    kinds = asked.head.consumes
    found = fetch(replace(asked, dataset=dataset, test_on=None), asked.backbone, PARTITION, kinds, asked.reads)
    every = Rows(PARTITION, np.arange(len(found.labels), dtype=np.int64))
    part, own = select({PARTITION: found}, every, kinds), rows.test.X
    X = rows.brought(part.X)
    if len(kinds) == 1 and X.shape[1:] != own.shape[1:]:
        raise InputError(
            f"ood set {place}, dataset {dataset.name}, has rows of the shape {X.shape[1:]}, the test rows "
            f"{own.shape[1:]}: give a dataset whose rows are as wide, or a backbone that makes them so"
        )
    return X, part.rows
