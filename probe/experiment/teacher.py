"""Teacher logits for distillation: out of fold through the teacher's own head, or of a finished run's fitted head.

The rows are always those that the student trains on: no test row reaches a teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from probe.core.arrays import RowStack, rows_of
from probe.core.base import IntArray, Rows, Split, digest
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.core.source import identity_of, is_own
from probe.core.words import counted
from probe.experiment.checks import check_fit
from probe.experiment.choosing import fit
from probe.experiment.identity import describe_head, head_name
from probe.experiment.reading import fetch, filled_in, select
from probe.experiment.request import Run, Teacher, TeacherRun
from probe.heads.shared.head import Head, Validation
from probe.protocols.shared.groups import grouped_folds, groups_across
from probe.results.reader import checked_head, read_result

KEYS = (
    ("dataset", "class_names"),
    ("dataset", "fingerprint"),
    ("run", "digest"),
    ("protocol", "rows"),
    ("config", "head"),
)
"""What is read of a record."""


def read_teacher(folder: str | Path, *, fingerprint: str, class_names: Sequence[str]) -> TeacherRun:
    """Reads a run folder; refuses one that is not complete, or of another dataset or other classes."""
    folder = Path(folder)
    try:
        result = read_result(folder)
    except InputError as error:
        raise InputError(f"teacher {folder}: {error}") from error
    if "members" in result:
        raise InputError(f"teacher {folder} is an ensemble, which has no fitted head: give one of its members")
    if wanting := [name for name, key in KEYS if key not in (result.get(name) or {})]:
        raise InputError(f"teacher {folder} has a result.json without {', '.join(wanting)}: give a complete run")
    dataset = result["dataset"]
    if list(dataset["class_names"]) != list(class_names):
        raise InputError(
            f"teacher {folder} knows {len(dataset['class_names'])} classes of {dataset['name']}, which are not the "
            f"{len(class_names)} of this dataset: give a run on the same dataset"
        )
    if dataset["fingerprint"] != fingerprint:
        raise InputError(
            f"teacher {folder} was run on {dataset['name']} with fingerprint {dataset['fingerprint']}, and this "
            f"dataset has {fingerprint}: give a run on the same dataset"
        )
    return TeacherRun(folder, result["run"]["digest"], result["config"], result["protocol"]["rows"])


def fitted_logits(
    teacher: TeacherRun,
    X: Any,
    y: ArrayLike,
    *,
    rows: str,
    validation: Validation | None = None,
    kind: type[Head] = Head,
) -> NDArray[np.float32]:
    """Logits of the run's own fitted head, which has seen these very rows and so tells less than out-of-fold ones.

    Args:
        teacher: What `read_teacher` gave.
        X: The teacher's features of the student's training rows.
        y: Their labels.
        rows: Digest of the student's split. A teacher of another split may have seen test rows and is refused.
        validation: The teacher's features and the labels of the student's validation rows.
        kind: The class of the run's head: one from outside this package is read by no other.
    """
    if rows != teacher.rows:
        raise InputError(
            f"teacher {teacher.folder} was fitted on other rows than this run trains on (split {teacher.rows}, here "
            f"{rows}): run it with the same protocol and seed, or set head.teacher_folds=5 for out-of-fold logits"
        )
    try:
        head = (Head if is_own(kind) else kind).load(checked_head(teacher.folder))
    except InputError as error:
        raise InputError(f"teacher {teacher.folder}: {error}") from error
    if not np.array_equal(head.classes_, np.unique(np.asarray(y))):
        raise InputError(
            f"teacher {teacher.folder} was fitted on the classes {head.classes_.tolist()}, which are not those of the "
            "training rows: run it with the same protocol and seed"
        )
    parts = [X] if validation is None else [X, validation[0]]
    return np.concatenate([head.logits(part) for part in parts]).astype(np.float32)


def out_of_fold_logits(
    head: Head,
    X: Any,
    y: ArrayLike,
    *,
    validation: Validation | None = None,
    n_folds: int = 5,
    seed: int = 0,
    groups: IntArray | None = None,
) -> NDArray[np.float32]:
    """Logits for every row from a teacher that was fitted without that row.

    Args:
        head: The teacher's head, fitted or not; clones of it are fitted.
        X: The teacher's features of the student's training rows: one array, or a mapping where it consumes several.
        y: Their labels.
        validation: The teacher's features and the labels of the student's validation rows, on which the student is
            refitted in the end. Rows of classes that no training row has get logits and teach nothing.
        n_folds: Folds, stratified by class and drawn with `seed`.
        seed: Seed of the folds.
        groups: (N,) or (N + N_validation,) of all these rows: no group is in two folds, and the teacher chooses on
            folds of groups too.

    Returns:
        (N, K), or (N + N_validation, K) with the validation rows behind; columns in the order of the sorted classes
        of y. The scale is the teacher's own.
    """
    if int(n_folds) != n_folds or n_folds < 2:
        raise InputError(f"n_folds is {n_folds}, expected a whole number from 2: set head.teacher_folds=5")
    labels = plain_array(y, "y")
    classes = np.unique(labels)
    if validation is not None:
        X, labels = _stack(X, validation[0]), np.concatenate([labels, plain_array(validation[1], "y")])
    known = np.isin(labels, classes)
    lonely = [name for name in classes.tolist() if np.count_nonzero(labels == name) < 2]
    if lonely:
        raise InputError(
            f"a single row has {counted(len(lonely), 'class', 'classes')}, the first is {lonely[0]!r}, and "
            "out-of-fold logits need two of "
            "each: give more rows, or set head.teacher_folds=null for the logits of the fitted teacher"
        )
    folds = stratified_folds(labels, int(n_folds), seed)
    if groups is not None:
        folds = _grouped(labels, groups, int(n_folds))
    logits = np.empty((len(labels), len(classes)), dtype=np.float32)
    insides = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    outsides = [np.flatnonzero((folds != fold) & known) for fold in np.unique(folds)]
    teachers: Iterable[Head] = head.fit_splits(X, labels, [(outside, None) for outside in outsides])
    if groups is not None:
        teachers = (_taught(clone(head), rows_of(X, rows), labels[rows], groups[rows]) for rows in outsides)
    for inside, teacher in zip(insides, teachers, strict=True):
        logits[inside] = teacher.logits(rows_of(X, inside))
    return logits


def _grouped(labels: NDArray[Any], groups: IntArray, n_folds: int) -> IntArray:
    folds = grouped_folds(labels, groups, n_folds)
    if (folds < 0).any():
        raise InputError(
            f"{(folds < 0).sum()} training rows belong to groups that cannot be left out, since no other group has "
            "their class, and out-of-fold logits need two groups of each: give more groups, or set "
            "head.teacher_folds=null for the logits of the fitted teacher"
        )
    return folds


def _taught(head: Head, X: Any, y: IntArray, groups: IntArray) -> Head:
    return fit(head, (X, y), (None, y[:0]), grouped_folds(y, groups), {})


def stratified_folds(labels: NDArray[Any], n_folds: int, seed: int) -> IntArray:
    """Fold of every row, (N,): rows in random order within their class are dealt out in turn."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = np.arange(len(labels)) % n_folds
    return folds


def _stack(first: Any, second: Any) -> Any:
    if isinstance(first, Mapping):
        return {kind: RowStack([array, second[kind]]) for kind, array in first.items()}
    return RowStack([first, second])


def describe_teacher(teacher: Teacher | None) -> dict[str, Any] | None:
    """What determines the teacher's logits; the name is what tables show."""
    if teacher is None:
        return None
    name = f"{head_name(teacher.head)} on {teacher.backbone.name}"
    if teacher.run is not None:
        return {"name": name, "run": teacher.run.digest}
    return {
        "name": name,
        "backbone": digest(identity_of(teacher.backbone)),
        "head": describe_head(teacher.head),
        **({"reads": dict(teacher.reads)} if teacher.reads else {}),
    }


def teach(request: Run, split: Split, digest_of_rows: str) -> dict[str, Any]:
    """Teacher logits of the rows that the student trains on, as arguments of `fit`; nothing without a teacher."""
    if request.teacher is None:
        return {}
    backbone, reads = request.teacher.backbone, request.teacher.reads
    head = filled_in(request.teacher.head, backbone, request)
    check_fit(head, backbone, reads)
    names = {split.train.partition} | ({split.validation.partition} if len(split.validation) else set())
    taught = {name: fetch(request, backbone, name, head.consumes, reads) for name in names}
    train, held = (
        select(taught, rows, head.consumes, split.train_labels, head.takes_mask)
        for rows in (split.train, split.validation)
    )
    X, y, validation = train.X, train.y, (held.X, held.y) if len(held.y) else None
    folds = request.head.get_params().get("teacher_folds", 5)
    if folds is None and (run := request.teacher.run) is not None:
        logits = fitted_logits(run, X, y, rows=digest_of_rows, validation=validation, kind=type(head))
        return {"teacher_logits": logits}
    rows = [Rows(rows.partition, part.rows) for rows, part in ((split.train, train), (split.validation, held))]
    groups = groups_across(request.dataset, rows)
    logits = out_of_fold_logits(head, X, y, validation=validation, n_folds=folds, seed=request.seed, groups=groups)
    return {"teacher_logits": logits}
