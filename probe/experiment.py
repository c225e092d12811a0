"""One run, from rows to a run folder. Read it from top to bottom; `run_once` and `carry_out` are the story."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probe import record
from probe.arrays import RowSubset
from probe.base import Backbone, Dataset, IntArray, Rows, Split, SplitProtocol, digest
from probe.calibration import SETTINGS, calibrate, check_calibrate, hold_out
from probe.determinants import FILLED_IN, describe, extraction, head_name, head_parameters, parts_of, run_name
from probe.errors import DoesNotFit, InputError
from probe.fitting import fit
from probe.metrics.evaluate import evaluate
from probe.protocols.checks import check_dataset
from probe.protocols.class_incremental import ClassIncremental
from probe.tasks import check_tasks, fit_tasks
from probe.transfer import PARTITION, Transfer, transfer

if TYPE_CHECKING:
    from probe.estimator import Head
    from probe.features.store import Features, FeatureStore
    from probe.teacher import TeacherRun


@dataclass(frozen=True)
class Teacher:
    """Who gives logits to a head that learns from them: a backbone and a head, of a finished run or not."""

    backbone: Backbone
    head: Head
    run: TeacherRun | None = None


@dataclass(frozen=True)
class Run:
    """Everything that determines a run, and how it is to be carried out.

    Attributes:
        folder: Where the run folder will stand, such as `runs/quickstart`.
        reads: Kind that the head consumes -> kind of the backbone that stands in for it, such as a tapped layer.
        features: Keyword arguments of `FeatureStore.get` (batch_size, n_workers, on_error, dtypes).
        config: What the user wrote, resolved; kept in the record only.
        test_on: Another dataset, whose test rows take the place of the own ones.
        calibrate: Fit a second time without a fifth of the training rows, and report temperature scaling and
            conformal sets from these.
    """

    backbone: Backbone
    dataset: Dataset
    protocol: SplitProtocol
    head: Head
    store: FeatureStore
    folder: Path
    seed: int = 0
    device: str = "auto"
    force: bool = False
    save_logits: bool | None = None
    reads: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    teacher: Teacher | None = None
    test_on: Dataset | None = None
    calibrate: bool = False


def run(request: Run) -> Path:
    """`run_once`, for callers to whom it does not matter whether the run was there."""
    return run_once(request)[0]


def run_once(request: Run) -> tuple[Path, bool]:
    """Runs, unless the same run is complete already; returns its folder, and whether this call made it.

    Any number of processes may ask for the same run: one computes it, the others wait for it.

    Raises:
        ProbeError: for anything the user can mend, before anything slow starts.
    """
    started = time.time()
    backbone, dataset, seed = request.backbone, request.dataset, request.seed
    check_dataset(dataset)
    request = with_teacher(request)
    check_fit(request.head, backbone, request.reads)
    check_tasks(request.protocol, request.head, teacher=request.teacher is not None)
    head = filled_in(request.head, backbone, request)
    split = request.protocol.split(dataset, seed)
    elsewhere = None if request.test_on is None else transfer(dataset, request.test_on)
    if elsewhere:
        split = elsewhere.split(split)
    held_out = None
    if request.calibrate:
        check_calibrate(request.protocol, teacher=request.teacher is not None)
        held_out = hold_out(dataset, split, seed)

    determinants = describe(
        backbone, dataset, request.protocol, head, split,
        seed=seed,
        extraction=extraction(request.features, [request.reads.get(kind, kind) for kind in head.consumes]),
        reads={kind: request.reads[kind] for kind in head.consumes if request.reads.get(kind, kind) != kind},
        teacher=describe_teacher(request.teacher),
        test_on=request.test_on,
        calibration=SETTINGS if request.calibrate else None,
    )  # fmt: skip
    folder = request.folder / run_name(determinants)
    if record.read_result(folder) is not None and not request.force:
        return folder, False
    with record.claim(folder):
        # Another process may have made it while this one waited; then it is new enough for `force` too.
        if record.read_result(folder) is not None and (not request.force or is_newer(folder, started)):
            return folder, False
        carry_out(request, head, split, determinants, folder, elsewhere, held_out)
    return folder, True


def is_newer(folder: Path, moment: float) -> bool:
    return (folder / "result.json").stat().st_mtime > moment


def carry_out(
    request: Run,
    head: Head,
    split: Split,
    determinants: Mapping[str, Any],
    folder: Path,
    elsewhere: Transfer | None,
    held_out: IntArray | None,
) -> None:
    """Fits, scores and writes a run whose rows and name are known."""
    started = time.perf_counter()
    backbone, dataset, seed = request.backbone, request.dataset, request.seed
    features = {name: fetch(request, backbone, name, head.consumes, request.reads) for name in partitions_of(split)}
    if elsewhere:
        features[PARTITION] = elsewhere.features(features[PARTITION])
    clock = time.perf_counter()
    (X_train, y_train, train_rows), validation = (
        select(features, rows, head.consumes, split.train_labels) for rows in (split.train, split.validation)
    )
    folds = None if split.folds is None else split.folds[np.isin(split.train.indices, train_rows)]
    X_test, y_test, test_rows = select(features, split.test, head.consumes)
    tasks = None
    if isinstance(request.protocol, ClassIncremental):
        named = request.protocol.tasks(dataset, seed)
        tasks = fit_tasks(head, [select(features, task.rows, head.consumes) for task in named], named, X_test, y_test)
    else:
        extras = teach(request, split, determinants["protocol"]["rows"])
        head = fit(head, (X_train, y_train), validation[:2], folds, extras)
    fitted = time.perf_counter()
    logits = record.full_width(head.logits(X_test), head.classes_, len(dataset.class_names))
    predicted = time.perf_counter()

    calibrated = None
    if held_out is not None:
        calibrated = calibrate(
            filled_in(request.head, backbone, request),
            (X_train, y_train), np.isin(train_rows, held_out), validation[:2], folds, (X_test, y_test),
            n_classes=len(dataset.class_names), seed=seed,
        )  # fmt: skip
    metrics = evaluate(logits, y_test, seed=seed)
    metrics |= (tasks.metrics if tasks else {}) | (calibrated.metrics if calibrated else {})
    result = {
        "schema": record.SCHEMA,
        "run": {
            "digest": digest(determinants),
            "name": folder.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "config": dict(request.config),
        "command": request.command,
        **determinants,
        "features": {name: f.digest for name, f in features.items()},
        "metrics": {name: vars(value) for name, value in metrics.items()},
        **({"tasks": tasks.record} if tasks else {}),
        **({"calibration": calibrated.record} if calibrated else {}),
        "selection": getattr(head, "selection_", None),
        "seconds": {
            "extract": sum(f.seconds for f in features.values()),
            "fit": fitted - clock,
            "predict": predicted - fitted,
            "total": time.perf_counter() - started,
        },
        "skipped_rows": {name: int((~f.valid).sum()) for name, f in features.items()},
        "versions": record.versions(),
        "commit": record.commit(),
        "device": device_name(request.device),
    }
    predictions = record.prediction_arrays(logits, y_test, test_rows, request.save_logits)
    record.write_run(folder, result, predictions, head, replace=request.force)


def check_fit(head: Head, backbone: Backbone, reads: Mapping[str, str]) -> None:
    """Refuses a head whose kinds of features the backbone does not give."""
    wanted = [reads.get(kind, kind) for kind in head.consumes]
    missing = [kind for kind in wanted if kind not in backbone.kinds]
    if missing:
        raise DoesNotFit(
            f"head {head_name(head)} reads {', '.join(missing)}, backbone {backbone.name} gives "
            f"{list(backbone.kinds)}: choose another head or backbone, or name a layer in backbone.taps and in reads"
        )


def with_teacher(request: Run) -> Run:
    """The request without a teacher that its head does not listen to; refuses parameters that cannot be fitted with."""
    request.head.check_parameters()
    if request.head.needs_teacher and request.teacher is None:
        raise InputError(
            f"head {head_name(request.head)} learns from a teacher and none is named: set head.teacher=<run folder>, "
            "or to a mapping with backbone and head, or choose head.arm=ce"
        )
    return request if request.head.needs_teacher else replace(request, teacher=None)


def filled_in(head: Head, backbone: Backbone, request: Run) -> Head:
    """A fresh head with the parameters that follow from the run: seed, device, prefix tokens of the backbone.

    The other parameters are spelled as the run's digest spells them: equal digests are equal computations.
    """
    from sklearn.base import clone

    values = dict(zip(FILLED_IN, (request.seed, request.device, backbone.n_prefix_tokens), strict=True))
    fresh: Head = clone(head).set_params(**head_parameters(head))
    return fresh.set_params(**{name: values[name] for name in FILLED_IN if name in head.get_params(deep=False)})


def partitions_of(split: Split) -> list[str]:
    return sorted({rows.partition for rows in parts_of(split).values() if len(rows)})


def fetch(
    request: Run, backbone: Backbone, partition: str, consumed: tuple[str, ...], reads: Mapping[str, str]
) -> Features:
    """Features of a partition under the names that the head knows; all tapped layers are extracted in one pass."""
    kinds = [reads.get(kind, kind) for kind in consumed]
    asked = dict.fromkeys([*kinds, *getattr(backbone, "taps", ())])
    dataset = request.dataset if request.test_on is None or partition != PARTITION else request.test_on
    found = request.store.get(backbone, dataset, partition, list(asked), device=request.device, **request.features)
    return replace(found, arrays=dict(zip(consumed, (found.arrays[kind] for kind in kinds), strict=True)))


def select(
    features: Mapping[str, Features], rows: Rows, kinds: tuple[str, ...], train_labels: IntArray | None = None
) -> tuple[RowSubset | dict[str, RowSubset] | None, IntArray, IntArray]:
    """Features, labels and row numbers of some rows, those left out that could not be decoded.

    Rows of the partition train take their labels from `train_labels` where given.
    """
    if not len(rows):
        return None, np.empty(0, np.int64), rows.indices
    part = features[rows.partition]
    indices = rows.indices[part.valid[rows.indices]]
    arrays = {kind: RowSubset(part.arrays[kind], indices) for kind in kinds}
    labels = train_labels if train_labels is not None and rows.partition == "train" else part.labels
    return arrays[kinds[0]] if len(kinds) == 1 else arrays, labels[indices], indices


def describe_teacher(teacher: Teacher | None) -> dict[str, Any] | None:
    """What determines the teacher's logits; the name is what tables show."""
    if teacher is None:
        return None
    name = f"{head_name(teacher.head)} on {teacher.backbone.name}"
    if teacher.run is not None:
        return {"name": name, "run": teacher.run.digest}
    return {
        "name": name,
        "backbone": digest(teacher.backbone.identity()),
        "head": {"name": head_name(teacher.head), "parameters": head_parameters(teacher.head)},
    }


def teach(request: Run, split: Split, digest_of_rows: str) -> dict[str, Any]:
    """Teacher logits of the rows that the student trains on, as arguments of `fit`; nothing without a teacher."""
    if request.teacher is None:
        return {}
    from probe.teacher import fitted_logits, out_of_fold_logits

    backbone = request.teacher.backbone
    head = filled_in(request.teacher.head, backbone, request)
    check_fit(head, backbone, {})
    names = {split.train.partition} | ({split.validation.partition} if len(split.validation) else set())
    taught = {name: fetch(request, backbone, name, head.consumes, {}) for name in names}
    X, y, _ = select(taught, split.train, head.consumes, split.train_labels)
    X_val, y_val, _ = select(taught, split.validation, head.consumes, split.train_labels)
    validation = (X_val, y_val) if len(y_val) else None
    folds = request.head.get_params()["teacher_folds"]
    if folds is None and request.teacher.run is not None:
        return {"teacher_logits": fitted_logits(request.teacher.run, X, y, rows=digest_of_rows, validation=validation)}
    return {"teacher_logits": out_of_fold_logits(head, X, y, validation=validation, n_folds=folds, seed=request.seed)}


def device_name(device: str) -> str:
    from probe.estimator import resolve_device

    resolved = resolve_device(device)
    if resolved == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name(resolved)
