"""What is asked of a run, and what it reads: backbone, rows and teacher in the terms of its head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.backbones.shared.views import MultiView
from probe.core.arrays import DrawnViews, Entries, RowSubset
from probe.core.base import Backbone, Dataset, IntArray, Rows, Split, SplitProtocol, digest
from probe.core.errors import DoesNotFit, InputError
from probe.core.targets import is_multilabel
from probe.experiment.identity import FILLED_IN, head_name, head_parameters, parts_of
from probe.experiment.transfer import PARTITION
from probe.heads.shared.head import N_AXES

if TYPE_CHECKING:
    from probe.experiment.teacher import TeacherRun
    from probe.features.store import Features, FeatureStore
    from probe.heads.shared.head import Head

MULTILABEL_PROTOCOLS = frozenset(("full", "official", "fraction", "rows", "vtab1k", "cross_validation", "recorded"))
"""Protocols whose draws mean something by the rarest label of each row, too; see `probe.core.targets.strata`."""


@dataclass(frozen=True)
class Teacher:
    """Who gives logits to a head that learns from them: a backbone and a head, of a finished run or not.

    Attributes:
        reads: As in `Run`, of the teacher's own head and backbone.
    """

    backbone: Backbone
    head: Head
    run: TeacherRun | None = None
    reads: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Everything that determines a run, and how it is to be carried out.

    Attributes:
        folder: Where the run folder will stand, such as `runs/quickstart`.
        reads: Kind that the head consumes -> kind of the backbone that stands in for it, such as a tapped layer.
        features: Keyword arguments of `FeatureStore.get` (batch_size, n_workers, on_error, dtypes).
        config: What the user wrote, resolved; kept in the record only.
        save_rows: Leave the rows of the split in the run folder, as `rows.json`.
        test_on: Another dataset, whose test rows take the place of the own ones.
        calibrate: Fit a second time without a fifth of the training rows, and report temperature scaling and
            conformal sets from these.
        conformal_level: Wanted chance that a conformal set holds the true class.
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
    save_rows: bool = False
    reads: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    teacher: Teacher | None = None
    test_on: Dataset | None = None
    calibrate: bool = False
    conformal_level: float = 0.9


def sources(consumed: Sequence[str], reads: Mapping[str, str]) -> list[tuple[str, int | None]]:
    """For each kind that a head reads the kind that is extracted, and which attention head of it.

    `<layer>:heads.<number>` is one attention head of the kind `<layer>:heads`.
    """
    found: list[tuple[str, int | None]] = []
    for read in (reads.get(kind, kind) for kind in consumed):
        kind, _, entry = read.rpartition(".")
        of_heads = kind.endswith(":heads") and entry.isdecimal()
        found.append((kind, int(entry)) if of_heads else (read, None))
    return found


def _remedy(missing: Mapping[str, str], backbone: Backbone) -> str:
    """The overrides with which a backbone gives what a head reads, or another head that reads what it gives."""
    instead = ", or head=linear, which reads pooled" if "pooled" in backbone.kinds else ""
    if not getattr(backbone, "shapes", {}):
        return f"it has no layers to tap, set another backbone{instead}"
    ends = {"pooled": "", "tokens": ":tokens"}
    layers = {kind: f"<layer>{ends[read]}" if read in ends else read for kind, read in missing.items()}
    taps = ",".join(dict.fromkeys([*getattr(backbone, "taps", ()), *layers.values()]))
    reads = "".join(f" and reads.{kind}={layer}" for kind, layer in layers.items() if layer != missing[kind])
    return f"set backbone.taps=[{taps}]{reads}{instead if reads else ''}"


def check_fit(head: Head, backbone: Backbone, reads: Mapping[str, str]) -> None:
    """Refuses a head whose kinds of features the backbone does not give, or gives in another shape."""
    wanted = dict(zip(head.consumes, sources(head.consumes, reads), strict=True))
    missing = {kind: read for kind, (read, _) in wanted.items() if read not in backbone.kinds}
    if missing:
        raise DoesNotFit(
            f"head {head_name(head)} reads {', '.join(missing.values())}, backbone {backbone.name} gives "
            f"{list(backbone.kinds)}: {_remedy(missing, backbone)}"
        )
    if isinstance(backbone, MultiView) and backbone.use == "draw" and not head.draws_views:
        raise DoesNotFit(
            f"head {head_name(head)} does not train epoch by epoch and cannot draw a view in each: set views.use=mean, "
            "or choose linear_sgd, moment_probing or dual_head_kd"
        )
    shapes: Mapping[str, tuple[int, ...]] = getattr(backbone, "shapes", {})
    for kind, (read, entry) in wanted.items():
        shape = shapes.get(read)
        if shape is None:
            continue
        if entry is not None and entry >= shape[0]:
            raise DoesNotFit(
                f"reads.{kind} asks for attention head {entry} of {read}, there are {shape[0]}: count from 0"
            )
        n_axes = 1 + len(shape) - (entry is not None)
        if n_axes != N_AXES.get(kind, n_axes):
            raise DoesNotFit(
                f"head {head_name(head)} reads {kind} as an array of {N_AXES[kind]} axes, {read} of backbone "
                f"{backbone.name} has {n_axes}: set reads.{kind} to another layer"
                + (f", or to one attention head of it, {read}.0" if read.endswith(":heads") else "")
            )


def check_multilabel(request: Run) -> None:
    """Refuses what knows one label per row only, where rows have several."""
    if request.test_on is not None and is_multilabel(request.test_on):
        raise InputError(f"dataset {request.test_on.name} has several labels per row: test_on takes one label per row")
    if not is_multilabel(request.dataset):
        return
    several = f"dataset {request.dataset.name} has several labels per row"
    if request.head.for_targets() is None:
        raise DoesNotFit(f"{several}, head {head_name(request.head)} gives one class to each: choose head=linear")
    if request.protocol.name not in MULTILABEL_PROTOCOLS:
        raise InputError(
            f"{several}, protocol {request.protocol.name} draws by class: choose one of "
            f"{', '.join(sorted(MULTILABEL_PROTOCOLS))}"
        )
    others = {"test_on": request.test_on, "calibrate": request.calibrate, "head.teacher": request.teacher}
    if asked := [name for name, value in others.items() if value]:
        raise InputError(f"{several}, {', '.join(asked)} need one label per row: leave them out")


def with_teacher(request: Run) -> Run:
    """The request without a teacher that its head does not listen to; refuses parameters that cannot be fitted with."""
    request.head.check_parameters()
    if request.head.needs_teacher and request.teacher is None:
        raise InputError(
            f"head {head_name(request.head)} learns from a teacher and none is named: set head.teacher=<run folder>, "
            "or to a mapping with backbone and head, or choose head.arm=ce"
        )
    if not request.head.needs_teacher:
        return replace(request, teacher=None)
    if request.teacher is not None and request.teacher.head.reads_texts:
        raise InputError(f"head {head_name(request.teacher.head)} cannot teach yet: choose a teacher that is fitted")
    return request


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
    wanted = sources(consumed, reads)
    asked = dict.fromkeys([*(kind for kind, _ in wanted), *getattr(backbone, "taps", ())])
    dataset = request.dataset if request.test_on is None or partition != PARTITION else request.test_on
    found = request.store.get(backbone, dataset, partition, list(asked), device=request.device, **request.features)
    seen: Mapping[str, Any] = found.arrays
    if isinstance(backbone, MultiView):
        drawn = backbone.use == "draw"
        seen = {k: DrawnViews(a, request.seed) if drawn else Entries(a, None) for k, a in found.arrays.items()}
    arrays: list[Any] = [seen[kind] if entry is None else Entries(seen[kind], entry) for kind, entry in wanted]
    return replace(found, arrays=dict(zip(consumed, arrays, strict=True)))


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
        **({"reads": dict(teacher.reads)} if teacher.reads else {}),
    }


def teach(request: Run, split: Split, digest_of_rows: str) -> dict[str, Any]:
    """Teacher logits of the rows that the student trains on, as arguments of `fit`; nothing without a teacher."""
    if request.teacher is None:
        return {}
    from probe.experiment.teacher import fitted_logits, out_of_fold_logits

    backbone, reads = request.teacher.backbone, request.teacher.reads
    head = filled_in(request.teacher.head, backbone, request)
    check_fit(head, backbone, reads)
    names = {split.train.partition} | ({split.validation.partition} if len(split.validation) else set())
    taught = {name: fetch(request, backbone, name, head.consumes, reads) for name in names}
    X, y, _ = select(taught, split.train, head.consumes, split.train_labels)
    X_val, y_val, _ = select(taught, split.validation, head.consumes, split.train_labels)
    validation = (X_val, y_val) if len(y_val) else None
    folds = request.head.get_params()["teacher_folds"]
    if folds is None and request.teacher.run is not None:
        return {"teacher_logits": fitted_logits(request.teacher.run, X, y, rows=digest_of_rows, validation=validation)}
    return {"teacher_logits": out_of_fold_logits(head, X, y, validation=validation, n_folds=folds, seed=request.seed)}
