"""Whether the parts of a run fit each other: one sentence if not, before anything slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.backbones.shared.views import MultiView
from probe.core import targets
from probe.core.abilities import ChecksGroups, MeasuresFeatures, Tapped
from probe.core.base import Backbone, Split, SplitProtocol
from probe.core.errors import DoesNotFit, InputError
from probe.core.kinds import KINDS, MEAN_OF_TOKENS, tap_of
from probe.core.ragged import Uneven
from probe.core.rows import check_rows
from probe.experiment.dense import grid_of_tokens
from probe.experiment.identity import head_name
from probe.experiment.reading import sources
from probe.experiment.request import Checked, Run, Teacher
from probe.features.store import wrong_settings
from probe.heads.shared.base import N_AXES
from probe.protocols.shared.groups import groups_among, groups_of
from probe.protocols.shared.tasks import ComesInTasks

if TYPE_CHECKING:
    from probe.experiment.transfer import Transfer
    from probe.heads.shared.base import AnyHead


AXES = {**N_AXES, "cells": 2}
"""Of what stands in for a kind; each cell of a grid is a vector per row."""


def check_fit(head: AnyHead, backbone: Backbone, reads: Mapping[str, Any]) -> None:
    """Refuses a head whose kinds of features the backbone does not give, or gives in another shape."""
    wanted = [(kind, *source) for kind in head.consumes for source in sources((kind,), reads)]
    missing = {kind: read for kind, read, _ in wanted if read not in backbone.kinds}
    if missing:
        raise DoesNotFit(
            f"head {head_name(head)} reads {', '.join(missing.values())}, backbone {backbone.name} gives "
            f"{list(backbone.kinds)}: {_remedy(missing, backbone, head)}"
        )
    if isinstance(backbone, MultiView) and backbone.use == "draw" and not head.draws_views:
        raise DoesNotFit(
            f"head {head_name(head)} does not train epoch by epoch and cannot draw a view in each: set views.use=mean, "
            "or choose linear_sgd, moment_probing or dual_head_kd"
        )
    unread = [read for read in uneven(head, backbone, reads) if read not in KINDS or not KINDS[read].ragged]
    if unread and not head.takes_mask:
        raise DoesNotFit(
            f"head {head_name(head)} takes {', '.join(unread)} of one length, rows of backbone {backbone.name} differ "
            f"in theirs: set head=attentive (of any kind but clip) or head=moment_probing, or head=linear "
            f"reads.pooled={MEAN_OF_TOKENS}"
        )
    shapes = backbone.shapes if isinstance(backbone, Tapped) else {}
    for kind, read, entry in wanted:
        shape = shapes.get(read)
        if shape is None:
            continue
        if isinstance(entry, int) and entry >= shape[0]:
            raise DoesNotFit(
                f"reads.{kind} asks for attention head {entry} of {read}, there are {shape[0]}: count from 0"
            )
        n_axes = 1 + len(shape) - (entry is not None)
        if kind == "map" and grid_of_tokens(backbone, read):
            continue
        if n_axes != (expected := AXES.get(kind, n_axes)):
            raise DoesNotFit(
                f"head {head_name(head)} reads {kind} as an array of {expected} axes, {read} of backbone "
                f"{backbone.name} has {n_axes}: set reads.{kind} to another layer"
                + (f", or to one attention head of it, {read}.0" if read.endswith(":heads") else "")
            )


def uneven(head: AnyHead, backbone: Backbone, reads: Mapping[str, str]) -> list[str]:
    """What a head reads of which rows differ in length."""
    differ = backbone.ragged if isinstance(backbone, Uneven) else ()
    return [read for read, part in sources(head.consumes, reads) if part is None and read in differ]


def check_rows_of(request: Run) -> None:
    """Refuses backbones that do not read what the rows are, of the run itself, its teacher, and its other test rows."""
    for dataset in (request.dataset, request.test_on):
        if dataset is not None:
            check_rows(request.backbone, dataset)
    if request.teacher is not None:
        check_rows(request.teacher.backbone, request.dataset)


def check_store(request: Run) -> None:
    """Refuses a cache that cannot be there, and settings with which it extracts nothing."""
    request.store.check_place()
    if wrong := wrong_settings(**request.features):
        raise InputError("; ".join(wrong))


def _remedy(missing: Mapping[str, str], backbone: Backbone, head: AnyHead) -> str:
    """The overrides with which a backbone gives what a head reads, or another head that reads what it gives."""
    of_pixels = any(targets.named(name).per_pixel for name in head.fits)  # of which every head reads the map
    pooled = "pooled" in backbone.kinds and not of_pixels
    instead = ", or head=linear, which reads pooled" if pooled else ""
    if not isinstance(backbone, Tapped) or not backbone.shapes:
        return f"it has no layers to tap, set another backbone{instead}"
    layers = {kind: tap_of("<layer>", read) or read for kind, read in missing.items()}
    taps = ",".join(dict.fromkeys([*backbone.taps, *layers.values()]))
    reads = "".join(f" and reads.{kind}={layer}" for kind, layer in layers.items() if layer != missing[kind])
    return f"set backbone.taps=[{taps}]{reads}{instead if reads else ''}"


def with_teacher(request: Run) -> Run:
    """The request with the teacher that its head listens to; refuses parameters that cannot be fitted with.

    One that names none gets the usual one.
    """
    request.head.for_target(request.dataset.target.name).check_parameters()
    if not request.head.needs_teacher:
        return replace(request, teacher=None)
    teacher = request.teacher or usual_teacher(request)
    if teacher.head.reads_texts:
        raise InputError(f"head {head_name(teacher.head)} cannot teach yet: choose a teacher that is fitted")
    if teacher.run is None and request.head.get_params().get("teacher_folds", 5) is None:
        raise InputError(
            "head.teacher_folds is null, which takes the logits of a finished run, and head.teacher names none: set "
            "head.teacher_folds=5, or head.teacher to the folder of a run"
        )
    return replace(request, teacher=teacher)


def usual_teacher(request: Run) -> Teacher:
    """The tuned linear probe on the same features."""
    from probe.heads.linear import LinearProbe

    reads = {kind: read for kind, read in request.reads.items() if kind in LinearProbe.consumes and kind != read}
    return Teacher(request.backbone, LinearProbe(), reads=reads)


def check_tasks(
    protocol: SplitProtocol, head: AnyHead, *, teacher: bool, grouped: bool = False, differ: Sequence[str] = ()
) -> None:
    """Refuses a head that can neither stream nor be refitted task by task, and tasks inside a wrapper.

    Rows in groups also refuse a head that chooses as it streams: it cannot keep a group from its choice. Rows that
    `differ` in length refuse one that does not stream.
    """
    inner = getattr(protocol, "protocol", None)
    if isinstance(inner, ComesInTasks):
        raise InputError(
            f"protocol {protocol.name} changes rows that come at once, protocol {inner.name} gives them task by task: "
            "set protocol.protocol to another one, such as full"
        )
    if not isinstance(protocol, ComesInTasks):
        return
    if head.streams and grouped and head.chooses_in_stream:
        raise DoesNotFit(
            f"head {head_name(head)} chooses on the rows that it streams, where the rows of a group are much alike: "
            f"give it a single candidate, such as {_single(head)}, or take protocol full"
        )
    if head.streams:
        return
    if differ:
        raise DoesNotFit(
            f"head {head_name(head)} reads {', '.join(differ)}, of which rows differ in length, and does not stream, "
            f"protocol {protocol.name} gives rows task by task: choose a head of pooled features, or protocol full"
        )
    if teacher or len(head.consumes) > 1:
        raise DoesNotFit(
            f"head {type(head).__name__} consumes {', '.join(head.consumes)}{' and a teacher' * teacher} and does not "
            f"stream, protocol {protocol.name} refits heads of one kind of features without a teacher: choose another "
            "head or protocol"
        )


def _single(head: AnyHead) -> str:
    """The overrides with which a head has one candidate; a list that is given as a number has no first item."""
    listed = {name: getattr(head, name) for name in head.searches.values()}
    firsts = {name: value[0] if isinstance(value, list | tuple) else 1.0 for name, value in listed.items()}
    return " ".join(f"head.{name}=[{first}]" for name, first in firsts.items())


def check_groups(request: Run) -> None:
    """Refuses a head that balances groups where the training rows name none, come in tasks, or calibrate."""
    if not request.head.balances_groups or isinstance(request.head, ChecksGroups):
        return
    name, dataset = head_name(request.head), request.dataset
    if groups_of(dataset) is None:
        raise InputError(
            f"head {name} balances groups of rows, dataset {dataset.name} names none: name their column or array, such "
            "as dataset.group_column, or take linear with head.class_weight=balanced"
        )
    if isinstance(request.protocol, ComesInTasks) or request.calibrate:
        what = "calibrate=true" if request.calibrate else f"protocol {request.protocol.name}"
        raise DoesNotFit(
            f"head {name} balances the groups of all training rows, {what} fits without some: leave it out"
        )


def check_drawn_groups(checked: Checked, split: Split, elsewhere: Transfer | None) -> None:
    """Lets a head refuse the groups of the rows that train and test, which it looks at before there are features."""
    own = checked.asked.dataset
    head = checked.head.for_target(own.target.name)
    if not isinstance(head, ChecksGroups):
        return
    tested = own if elsewhere is None else elsewhere.dataset
    parts = {"training rows": (own, split.train)} if head.balances_groups else {}
    for whose, (of, rows) in (parts | {"test rows": (tested, split.test)}).items():
        labels = np.asarray(of.partitions[rows.partition].labels)[rows.indices]
        if elsewhere is not None and of is tested and own.target.exclusive:
            labels = elsewhere.codes[labels]
        head.check_groups(groups_among(of, rows), labels, f"{whose} of dataset {of.name}")


def check_measures(request: Run) -> None:
    """Refuses what needs predictions, of a run without a head."""
    head, protocol = request.head, request.protocol
    if not isinstance(head, MeasuresFeatures):
        return
    if request.calibrate or isinstance(protocol, ComesInTasks):
        what = "calibrate=true" if request.calibrate else f"protocol {protocol.name}"
        raise DoesNotFit(f"head {head_name(head)} predicts nothing, {what} wants predictions: choose another head")
    if getattr(head, "junk", "none") == "group" and groups_of(request.test_on or request.dataset, "test") is None:
        raise InputError(
            f"head none with junk by group leaves out rows of the query's group, and dataset "
            f"{request.dataset.name} names no groups of "
            "its test rows: set head.junk=none"
        )


def check_calibrate(protocol: SplitProtocol, *, teacher: bool) -> None:
    """Refuses runs in which rows cannot be kept from all that is fitted."""
    if teacher or isinstance(protocol, ComesInTasks):
        why = "a teacher has seen these too" if teacher else f"protocol {protocol.name} streams every row once"
        raise InputError(
            f"calibrate=true fits once more without a fifth of the training rows, but {why}: set calibrate=false"
        )
