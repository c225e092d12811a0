"""One run, from rows to a run folder. Read it from top to bottom; `run_once` and `carry_out` are the story."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from probe.core.base import IntArray, Split, digest
from probe.core.device import device_name, resolve_device
from probe.core.targets import with_strata
from probe.datasets.shared.partitions import count_duplicates
from probe.experiment.calibration import calibrate, check_calibrate, hold_out, settings
from probe.experiment.fitting import fit
from probe.experiment.identity import describe, extraction, run_name
from probe.experiment.prompts import prompts_of
from probe.experiment.request import (
    Run,
    check_fit,
    check_multilabel,
    describe_teacher,
    fetch,
    filled_in,
    partitions_of,
    select,
    sources,
    teach,
    with_teacher,
)
from probe.experiment.tasks import check_tasks, fit_tasks
from probe.experiment.transfer import PARTITION, Transfer, transfer
from probe.metrics.classification import by_frequency
from probe.metrics.evaluate import evaluate
from probe.metrics.rows import Measured
from probe.metrics.scores import score_rows
from probe.protocols.shared.checks import check_dataset
from probe.protocols.shared.rows_file import write_rows
from probe.protocols.shared.tasks import ComesInTasks
from probe.results import folder as record

if TYPE_CHECKING:
    from probe.heads.shared.head import Head


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
    drawn_from = with_strata(dataset)
    check_dataset(drawn_from)
    check_multilabel(request)
    resolve_device(request.device)
    request = with_teacher(request)
    check_fit(request.head, backbone, request.reads)
    check_tasks(request.protocol, request.head, teacher=request.teacher is not None)
    prompts = prompts_of(request.head, backbone, dataset, request.reads)
    head = filled_in(request.head, backbone, request)
    split = request.protocol.split(drawn_from, seed)
    elsewhere = None if request.test_on is None else transfer(dataset, request.test_on)
    if elsewhere:
        split = elsewhere.split(split)
    held_out = None
    if request.calibrate:
        check_calibrate(request.protocol, teacher=request.teacher is not None)
        held_out = hold_out(dataset, split, seed, request.conformal_level)

    determinants = describe(
        backbone, dataset, request.protocol, head, split,
        seed=seed,
        extraction=extraction(request.features, [kind for kind, _ in sources(head.consumes, request.reads)]),
        reads={kind: request.reads[kind] for kind in head.consumes if request.reads.get(kind, kind) != kind},
        teacher=describe_teacher(request.teacher),
        test_on=request.test_on,
        calibration=settings(request.conformal_level) if request.calibrate else None,
        texts=None if prompts is None else prompts.describe(),
    )  # fmt: skip
    folder = request.folder / run_name(determinants)
    if record.read_result(folder) is not None and not request.force:
        return folder, False
    with record.claim(folder):
        # Another process may have made it while this one waited; then it is new enough for `force` too.
        if record.read_result(folder) is not None and (not request.force or is_newer(folder, started)):
            return folder, False
        if prompts is not None:
            texts = prompts.class_features(request.store, request.device)
            head = head.set_params(class_features=texts, temperature=prompts.temperature)
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
    unfitted = clone(head)
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
    if isinstance(request.protocol, ComesInTasks):
        named = request.protocol.tasks(dataset, seed)
        test = (request.test_on or dataset).partitions[split.test.partition]
        tasks = fit_tasks(
            head, named, [select(features, task.rows, head.consumes) for task in named], (X_test, y_test),
            request.protocol.tasks_of_test_rows(dataset, test, y_test, test_rows, seed), len(dataset.class_names),
        )  # fmt: skip
    else:
        extras = teach(request, split, determinants["protocol"]["rows"])
        head = fit(head, (X_train, y_train), validation[:2], folds, extras)
    fitted = time.perf_counter()
    logits = record.full_width(head.logits(X_test), head.classes_, len(dataset.class_names))
    predicted = time.perf_counter()

    calibrated = None
    if held_out is not None:
        calibrated = calibrate(
            unfitted,
            (X_train, y_train), np.isin(train_rows, held_out), validation[:2], folds, (X_test, y_test),
            n_classes=len(dataset.class_names), seed=0, level=request.conformal_level,
        )  # fmt: skip
    # The intervals of all runs come from the same resamples (seed 0), which a sweep then draws once.
    measured = Measured(evaluate(logits, y_test))
    if y_test.ndim == 1:
        counts = np.bincount(np.concatenate([y_train, validation[1]]), minlength=len(dataset.class_names))
        measured.add(by_frequency(score_rows(logits, y_test), counts, seed=0))
    for part in (tasks, calibrated):
        if part:
            measured.add(part.measured)
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
        "metrics": {name: vars(value) for name, value in measured.metrics.items()},
        **({"tasks": tasks.record} if tasks else {}),
        **({"calibration": calibrated.record} if calibrated else {}),
        "selection": getattr(head, "selection_", None),
        "seconds": {
            "extract": sum(f.seconds for f in features.values()),
            "fit": fitted - clock,
            "predict": predicted - fitted,
            "total": time.perf_counter() - started,
        },
        "leakage": count_duplicates(dataset, None if elsewhere is None else elsewhere.dataset),
        "skipped_rows": {name: int((~f.valid).sum()) for name, f in features.items()},
        "versions": record.versions(),
        "commit": record.commit(),
        "device": device_name(request.device),
    }
    predictions = record.prediction_arrays(logits, y_test, test_rows, request.save_logits, measured.rows)

    def write_own_rows(partial: Path) -> None:
        own = request.protocol.split(dataset, seed)  # with its own test rows where another dataset tests
        write_rows(partial / "rows.json", dataset, request.protocol.name, seed, own)

    more = write_own_rows if request.save_rows else None
    record.write_run(folder, result, predictions, head, replace=request.force, more=more)
