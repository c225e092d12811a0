"""One run, from what is asked to a run folder, in four steps: check, draw, name, carry out."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from probe.core.device import resolve_device
from probe.core.errors import StoreError
from probe.core.files import Stamp
from probe.experiment import calibration, forecast, identity
from probe.experiment.checks import (
    check_calibrate,
    check_drawn_groups,
    check_fit,
    check_groups,
    check_measures,
    check_rows_of,
    check_store,
    check_tasks,
    uneven,
    usual_teacher,
    with_teacher,
)
from probe.experiment.collapse import check_collapse
from probe.experiment.dense import check_geometry, with_places
from probe.experiment.fits import check_target
from probe.experiment.fitting import Fitted, fit_run
from probe.experiment.grids import with_cells
from probe.experiment.halving import check_search, check_validates
from probe.experiment.layers import describe_layers, read_rows, spelled, with_layers
from probe.experiment.measuring import described, measure
from probe.experiment.ood import check_ood, describe_ood
from probe.experiment.prompts import prompts_of
from probe.experiment.reading import filled_in, sources
from probe.experiment.request import Checked, Drawn, Named, Run
from probe.experiment.scaling import check_standardize, standardizes
from probe.experiment.shifted import fits_once, kept, runs_of, tested_on
from probe.experiment.shuffling import check_shuffle, shuffle_labels
from probe.experiment.teacher import describe_teacher
from probe.experiment.transfer import transfer
from probe.experiment.writing import write, write_own_rows
from probe.metrics.shared.metric import check_own
from probe.protocols.shared.checks import check_dataset
from probe.protocols.shared.groups import groups_of, keep_together
from probe.protocols.shared.strata import with_strata
from probe.results.place import check_place
from probe.results.reader import find_complete, read_predictions
from probe.results.schema import RESULT, ROWS
from probe.results.writer import add_file, claim

WITH_LOGITS = ("one_class", "labels")
"""Targets of which a run can keep logits."""


def run(request: Run) -> Path:
    """`run_once`, for callers to whom it does not matter whether the run was there."""
    return run_once(request)[0]


def run_once(request: Run) -> tuple[Path, bool]:
    """Runs, unless the same run is complete already; returns its folder, and whether this call made it.

    Any number of processes may ask for the same run: one computes it, the others wait for it.

    Raises:
        ProbeError: for anything the user can mend, before anything slow starts.
    """
    return carry_out_once(prepare(request))


def prepare(request: Run) -> Named:
    """Steps 1 to 3: all that can be refused without computing anything."""
    no_cache = _no_cache(request)  # before all rows are read for their digest
    every = [name(draw(check(one))) for one in runs_of(request)]
    for named in every:
        asked, found = named.drawn.checked.asked, find_complete(named.folder)
        computes = asked.force or found is None
        if computes and no_cache:
            raise no_cache
        if computes or lacks_rows(asked, found):
            check_place(named.folder)
    named, *beside = (replace(named, found=stamp_of(named.folder)) for named in every)
    return replace(named, beside=tuple(beside))


def _no_cache(request: Run) -> StoreError | None:
    """Why there cannot be a cache; raised at once where no run of this seed lies there that might be the one asked.

    A complete run needs no cache, but which run it is hangs on the rows, so that these are read before it is told.
    """
    try:
        check_store(request)
    except StoreError as error:
        if request.force or not any(request.folder.glob(f"*-s{request.seed}-????????/{RESULT}")):
            raise
        return error
    return None


def carry_out_once(named: Named) -> tuple[Path, bool]:
    """Step 4, unless the run is complete already; returns its folder, and whether this call made it, or one beside."""
    fitted, is_new = None, False
    for one in (named, *named.beside):
        found, made = carry_out_alone(one, fitted)
        fitted, is_new = fitted or found, is_new or made
    return named.folder, is_new


def carry_out_alone(named: Named, fitted: Fitted | None = None) -> tuple[Fitted | None, bool]:
    """Step 4 of one run folder, with the fit of another on the same rows; returns its own, and whether it was made."""
    asked, found = named.drawn.checked.asked, find_complete(named.folder)
    if not asked.force and found is not None and not lacks_rows(asked, found):
        return None, False
    with claim(named.folder):
        # Another process may have made it while this one waited; then it is new enough for `force` too. That is another
        # file than was there before: its time says nothing, clocks of a shared folder need not agree.
        found = find_complete(named.folder)
        if found is not None and (not asked.force or stamp_of(named.folder) != named.found):
            if lacks_rows(asked, found):
                add_file(named.folder, ROWS, partial(write_own_rows, named))
            return None, False
        return carry_out(named, fitted), True


def check(request: Run) -> Checked:
    """Step 1: do the parts fit each other?"""
    check_dataset(request.dataset)
    request = with_places(request)
    check_target(request)
    resolve_device(request.device)
    request = with_teacher(request)
    check_own(request.metrics)
    check_rows_of(request)
    request = with_layers(with_cells(request))
    check_fit(request.head, request.backbone, request.reads)
    check_geometry(request)
    check_measures(request)
    check_ood(request)
    check_collapse(request)
    check_groups(request)
    grouped = groups_of(request.dataset) is not None
    differ = uneven(request.head, request.backbone, request.reads)
    check_tasks(request.protocol, request.head, teacher=request.teacher is not None, grouped=grouped, differ=differ)
    check_search(
        request.search, request.head, exclusive=request.dataset.target.exclusive, protocol=request.protocol,
        teacher=request.teacher is not None, calibrate=request.calibrate,
    )  # fmt: skip
    if request.calibrate:
        check_calibrate(request.protocol, teacher=request.teacher is not None)
    if request.shuffle_labels:
        learnt = request.dataset.target.learnt
        check_shuffle(request.protocol, reads_texts=request.head.reads_texts, learnt=learnt)
    check_standardize(request.standardize, request.dataset, request.protocol, request.head)
    prompts = prompts_of(request.head, request.backbone, request.dataset, request.reads)
    return Checked(request, filled_in(request.head, request.backbone, request), with_strata(request.dataset), prompts)


def draw(checked: Checked) -> Drawn:
    """Step 2: the rows that train, validate and test, from the dataset and the seed alone."""
    asked = checked.asked
    split = keep_together(checked.strata, asked.protocol.split(checked.strata, asked.seed), asked.protocol.name)
    check_validates(asked.search, split, asked.protocol)
    if asked.shuffle_labels:
        split = shuffle_labels(split, asked.dataset, asked.seed)
    elsewhere = None if asked.test_on is None else transfer(asked.dataset, asked.test_on)
    if elsewhere:
        split = elsewhere.split(split)
    check_drawn_groups(checked, split, elsewhere)
    held_out = None
    if asked.calibrate:
        level = None if asked.dataset.target.per_pixel else asked.conformal_level
        held_out = calibration.hold_out(checked.strata, split, asked.seed, level)
    return Drawn(checked, split, elsewhere, held_out)


def name(drawn: Drawn) -> Named:
    """Step 3: everything that can change the numbers, and the folder that it names."""
    checked, asked = drawn.checked, drawn.checked.asked
    consumes, reads = checked.head.consumes, asked.reads
    determinants = identity.describe(
        asked.backbone, asked.dataset, asked.protocol, checked.head, drawn.split,
        seed=asked.seed,
        extraction=identity.extraction(asked.features, [kind for kind, _ in sources(consumes, reads)])
        | ({"standardize": True} if standardizes(asked.standardize, asked.dataset) else {})
        | (describe_layers(reads) if consumes == ("pooled",) else {}),
        reads={kind: spelled(reads[kind]) for kind in consumes if (reads.get(kind) or kind) != kind},
        teacher=describe_teacher(asked.teacher),
        usual_teacher=describe_teacher(usual_teacher(asked)) if asked.teacher else None,
        test_on=asked.test_on,
        calibration=calibration.settings(asked.conformal_level) if asked.calibrate else None,
        texts=None if checked.prompts is None else checked.prompts.describe(),
        shuffle_labels=asked.shuffle_labels,
        search=asked.search,
    )  # fmt: skip
    if asked.metrics:
        determinants["own_metrics"] = {metric.name: described(metric) for metric in asked.metrics}
    determinants |= describe_ood(asked.ood) | ({"neural_collapse": True} if asked.neural_collapse else {})
    if doubt := identity.cannot_be_known(determinants):
        warnings.warn(doubt, stacklevel=4)
    folder = asked.folder / identity.run_name(determinants)
    found = find_complete(folder)
    if doubt or lacks_logits(asked, folder, found):
        # What it wrote down when it was asked to stays.
        again = replace(asked, force=True, save_rows=asked.save_rows or (found is not None and ROWS in found["files"]))
        drawn = replace(drawn, checked=replace(checked, asked=again))
    return Named(drawn, determinants, folder)


def lacks_rows(asked: Run, found: Mapping[str, Any] | None) -> bool:
    """Whether a run that is complete did not write down the rows that are asked for now.

    They follow from what names the run, so that they can be added to it.
    """
    return asked.save_rows and found is not None and ROWS not in found["files"]


def lacks_logits(asked: Run, folder: Path, found: Mapping[str, Any] | None) -> bool:
    """Whether a run that is complete did not keep the logits that are asked for now, since nobody wanted them."""
    if not asked.save_logits or found is None or asked.dataset.target.name not in WITH_LOGITS:
        return False
    arrays = read_predictions(folder, found)
    return "logits" not in arrays and "predicted" in arrays  # head=none has neither


def carry_out(named: Named, fitted: Fitted | None = None) -> Fitted | None:
    """Step 4: features, fit, scores, and the run folder, all or nothing; returns a fit that serves other test rows."""
    started = time.perf_counter()
    if fitted is None and (doubt := forecast.doubt(named.drawn)):
        warnings.warn(doubt, stacklevel=2)
    rows = read_rows(named.drawn)
    fitted = fit_run(named, rows) if fitted is None else tested_on(fitted, named, rows)
    shared = kept(fitted) if fits_once(named) else None
    measured = measure(named.drawn, rows, fitted)
    for head in (fitted.head, measured.calibrated):
        if head is not None:
            rows.keep_in(head)
    write(named, rows, fitted, measured, total_seconds=time.perf_counter() - started)
    return shared


def stamp_of(folder: Path) -> Stamp | None:
    """Tells the result of a run folder from every other that stood or will stand there; None where there is none."""
    try:
        return Stamp.of(os.stat(folder / RESULT))
    except OSError:
        return None
