"""One run, from rows to a run folder. Read it from top to bottom; `run` is the whole story."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probe import __version__, record
from probe.arrays import RowSubset
from probe.base import Backbone, Dataset, IntArray, Rows, Split, SplitProtocol, digest
from probe.errors import DoesNotFit
from probe.metrics.evaluate import evaluate
from probe.metrics.incremental import accuracy_matrix, incremental_metrics
from probe.metrics.intervals import Interval
from probe.protocols.checks import check_dataset
from probe.protocols.class_incremental import ClassIncremental, logits_after_each_task, streams
from probe.protocols.describe import label as protocol_label
from probe.protocols.describe import parameters as protocol_parameters
from probe.protocols.folded import fit_on_folds

if TYPE_CHECKING:
    from probe.estimator import Head
    from probe.features.store import Features, FeatureStore

# Parameters of a head that follow from the run, not from the method; they do not make it another head.
FILLED_IN = ("random_state", "device", "n_prefix_tokens")


@dataclass(frozen=True)
class Run:
    """Everything that determines a run, and how it is to be carried out.

    Attributes:
        folder: Where the run folder will stand, such as `runs/quickstart`.
        features: Keyword arguments of `FeatureStore.get` (batch_size, n_workers, on_error, dtypes).
        config: What the user wrote, resolved; kept in the record only.
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
    features: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""


def run(request: Run) -> Path:
    """Runs, unless the same run is complete already; returns its folder.

    Raises:
        ProbeError: for anything the user can mend, before anything slow starts.
    """
    started = time.perf_counter()
    backbone, dataset, seed = request.backbone, request.dataset, request.seed
    check_dataset(dataset)
    check_fit(request.head, backbone)
    check_tasks(request)
    head = filled_in(request)
    split = request.protocol.split(dataset, seed)

    determinants = describe(request, head, split)
    folder = request.folder / run_name(request, head, determinants)
    if record.read_result(folder) is not None and not request.force:
        return folder

    features = {name: fetch(request, name, head.consumes) for name in partitions_of(split)}
    clock = time.perf_counter()
    X_test, y_test, test_rows = select(features, split.test, head.consumes)
    tasks = fit_tasks(request, head, features, X_test, y_test) if in_tasks(request) else None
    if tasks is None:
        fit(head, features, split)
    fitted = time.perf_counter()
    logits = record.full_width(head.logits(X_test), head.classes_, len(dataset.class_names))
    predicted = time.perf_counter()

    found = evaluate(logits, y_test, seed=seed) | (tasks.metrics if tasks else {})
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
        "metrics": {name: vars(value) for name, value in found.items()},
        **({"tasks": tasks.record} if tasks else {}),
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
    record.write_run(folder, result, record.prediction_arrays(logits, y_test, test_rows, request.save_logits), head)
    return folder


def check_fit(head: Head, backbone: Backbone) -> None:
    """Refuses a head whose kinds of features the backbone does not give."""
    missing = [kind for kind in head.consumes if kind not in backbone.kinds]
    if missing:
        raise DoesNotFit(
            f"head {head_name(head)} consumes {', '.join(missing)}, backbone {backbone.name} gives "
            f"{list(backbone.kinds)}: choose another head, or a backbone that gives {', '.join(missing)}"
        )


def check_tasks(request: Run) -> None:
    """Refuses a head that can neither stream nor be refitted on all tasks so far."""
    if in_tasks(request) and not streams(request.head) and len(request.head.consumes) > 1:
        raise DoesNotFit(
            f"head {head_name(request.head)} consumes {', '.join(request.head.consumes)} and does not stream, protocol "
            "class_incremental refits heads of pooled features only: choose another head or protocol"
        )


def fit(head: Head, features: Mapping[str, Features], split: Split) -> None:
    """Fits on the training rows, choosing on the validation rows, or on folds where the training rows are few."""
    X, y, rows = select(features, split.train, head.consumes, split.train_labels)
    if split.folds is not None:
        fit_on_folds(head, X, y, split.folds[np.isin(split.train.indices, rows)])
        return
    X_val, y_val, _ = select(features, split.validation, head.consumes, split.train_labels)
    head.fit(X, y, validation=(X_val, y_val) if len(y_val) else None)


@dataclass(frozen=True)
class Tasks:
    """What came of learning task by task: metrics, and for the record the classes and the accuracy matrix."""

    metrics: dict[str, Interval]
    record: dict[str, Any]


def in_tasks(request: Run) -> bool:
    return isinstance(request.protocol, ClassIncremental)


def fit_tasks(request: Run, head: Head, features: Mapping[str, Features], X_test: Any, y_test: IntArray) -> Tasks:
    """Fits task by task, predicting the test rows after each."""
    protocol, dataset, seed = request.protocol, request.dataset, request.seed
    assert isinstance(protocol, ClassIncremental)
    parts = [select(features, rows, head.consumes)[:2] for rows in protocol.tasks(dataset, seed)]
    steps = logits_after_each_task(head, parts, X_test, len(dataset.class_names))
    predicted = np.stack([logits.argmax(axis=1) for logits in steps])
    classes = protocol.classes(dataset, seed)
    task_of_class = np.empty(len(dataset.class_names), dtype=np.int64)
    for task, codes in enumerate(classes):
        task_of_class[codes] = task
    matrix = accuracy_matrix(predicted, y_test, task_of_class)
    facts = {
        "classes": [codes.tolist() for codes in classes],
        "accuracy_matrix": [[None if np.isnan(a) else a for a in row] for row in matrix.tolist()],
        "streamed": streams(head),
    }
    return Tasks(incremental_metrics(predicted, y_test, task_of_class), facts)


def filled_in(request: Run) -> Head:
    """A fresh head with the parameters that follow from the run: seed, device, prefix tokens of the backbone."""
    from sklearn.base import clone

    head: Head = clone(request.head)
    values = {
        "random_state": request.seed,
        "device": request.device,
        "n_prefix_tokens": request.backbone.n_prefix_tokens,
    }
    return head.set_params(**{name: values[name] for name in FILLED_IN if name in head.get_params(deep=False)})


def head_name(head: Head) -> str:
    """The head's file and yaml name."""
    return type(head).__module__.rpartition(".")[2]


def label(name: str, parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """A display name that tells variants apart: the name, then the parameters that differ from the defaults."""
    changed = [f"{key}={value}" for key, value in sorted(parameters.items()) if value != defaults.get(key, value)]
    return f"{name}({','.join(changed)})" if changed else name


def head_parameters(head: Head) -> dict[str, Any]:
    return {name: value for name, value in head.get_params(deep=False).items() if name not in FILLED_IN}


def describe(request: Run, head: Head, split: Split) -> dict[str, Any]:
    """What determines the result. Its digest names the run: equal facts, one run, however they were written."""
    backbone, dataset, protocol = request.backbone, request.dataset, request.protocol
    parameters = head_parameters(head)
    rows = {name: [r.partition, digest(r.indices.tolist())] for name, r in split.parts.items()}
    rows |= {
        k: ["train", digest(v.tolist())] for k in ("folds", "train_labels") if (v := getattr(split, k)) is not None
    }
    joint = " (joint)" if in_tasks(request) and not streams(head) else ""
    return {
        "labels": {
            "backbone": backbone.name,
            "dataset": dataset.name,
            "head": label(head_name(head), parameters, head_parameters(type(head)())) + joint,
            "protocol": protocol_label(protocol),
        },
        "seed": request.seed,
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "class_names": list(dataset.class_names),
            "test_rows": rows["test"][1],
        },
        "protocol": {
            "name": protocol.name,
            "parameters": protocol_parameters(protocol),
            **{f"n_{name}": len(r) for name, r in split.parts.items()},
            "rows": digest(rows),
        },
        "backbone": {
            "name": backbone.name,
            "identity": digest(backbone.identity()),
            "n_parameters": backbone.n_parameters,
        },
        "head": {"name": head_name(head), "class": type(head).__qualname__, "parameters": parameters},
        "extraction": {name: request.features.get(name) for name in ("on_error", "dtypes")},
        "version": __version__,
    }


def run_name(request: Run, head: Head, determinants: Mapping[str, Any]) -> str:
    labels = determinants["labels"]
    return record.slug(
        labels["backbone"],
        labels["dataset"],
        labels["protocol"],
        head_name(head),
        f"s{request.seed}",
        digest(determinants)[:8],
    )


def partitions_of(split: Split) -> list[str]:
    return sorted({rows.partition for rows in split.parts.values() if len(rows)})


def fetch(request: Run, partition: str, kinds: tuple[str, ...]) -> Features:
    return request.store.get(
        request.backbone, request.dataset, partition, kinds, device=request.device, **request.features
    )


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


def device_name(device: str) -> str:
    from probe.estimator import resolve_device

    resolved = resolve_device(device)
    if resolved == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name(resolved)
