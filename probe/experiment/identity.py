"""What determines a run: equal facts name one run, however its configuration was spelled."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.base import Backbone, Dataset, Rows, Split, SplitProtocol, digest
from probe.core.hashing import hash_bytes
from probe.core.source import code_of, identity_of, is_unknown
from probe.core.version import __version__
from probe.experiment.folds import chosen_on_folds
from probe.experiment.labels import bases_of, label
from probe.features.layout import DEFAULT_DTYPES, rows_code
from probe.heads.shared.patch_head import PatchHead, PatchRows
from probe.metrics.evaluate import recipes
from probe.protocols.shared.groups import group_names, groups_of
from probe.protocols.shared.tasks import ComesInTasks
from probe.results.writer import slug

if TYPE_CHECKING:
    from probe.heads.shared.base import AnyHead

SHOWN = ("standardize",)
"""What of the extraction a table has to tell of a backbone."""
# Parameters of a head that follow from the run, not from the method; they do not make it another head.
LONGEST_LABEL = 180
FILLED_IN = ("random_state", "device", "n_prefix_tokens")


def parts_of(split: Split) -> dict[str, Rows]:
    """The rows of a split by the part they play."""
    return {"train": split.train, "validation": split.validation, "test": split.test}


def head_name(head: AnyHead) -> str:
    """The head's file and yaml name; the class's where it was typed in."""
    head = head.inner or head
    name = type(head).__module__.rpartition(".")[2]
    return type(head).__name__ if name == "__main__" else name


def head_parameters(head: AnyHead) -> dict[str, Any]:
    """Parameters of the method, in one spelling."""
    head = head.inner or head
    parameters = {name: value for name, value in head.get_params(deep=False).items() if name not in FILLED_IN}
    return one_spelling(type(head), parameters)


def one_spelling(kind: type, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters such that equal meanings are equal values.

    Numbers where the constructor is annotated with `float` and not with `int` are floats (1 means 1.0), lists that
    the class names in `unordered` are sorted, without duplicates.
    """
    hints = parameter_types(kind)
    found = {}
    for name, value in parameters.items():
        single, listed = number_types(hints.get(name))
        if isinstance(value, (list, tuple)):
            numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in value)
            unordered = numbers and name in getattr(kind, "unordered", ())
            if listed == {float} or (unordered and any(isinstance(item, float) for item in value)):
                value = [as_float(item) for item in value]
            if unordered:
                value = sorted(set(value))
        elif single == {float}:
            value = as_float(value)
        found[name] = value
    return found


def parameter_types(kind: type) -> dict[str, Any]:
    """Types of a constructor's parameters; none where one of them names what only a type checker imports."""
    try:
        return typing.get_type_hints(kind.__init__)  # type: ignore[misc]
    except NameError:
        return {}


def number_types(hint: Any) -> tuple[set[type], set[type]]:
    """Which of int and float a parameter may be, and which the items of its lists may be."""
    options = list(_options(hint))
    items = [item for option in options for item in typing.get_args(option)]
    return {int, float} & set(options), {int, float} & {part for item in items for part in _options(item)}


def _options(hint: Any) -> Iterator[Any]:
    union = typing.get_origin(hint) in (typing.Union, UnionType)
    yield from typing.get_args(hint) if union else (hint,)


def as_float(value: Any) -> Any:
    """A whole number as a float; anything else as it is, for the head to judge."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def extraction(features: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    """What of the extraction's settings bears on these kinds; a default that is written out says nothing."""
    dtypes = features.get("dtypes") or {}
    told = {kind: dtypes[kind] for kind in kinds if dtypes.get(kind) not in (None, DEFAULT_DTYPES.get(kind))}
    return {"on_error": features.get("on_error", "raise"), "dtypes": told}


def protocol_parameters(protocol: SplitProtocol) -> dict[str, Any]:
    """Parameters by name, in one spelling; a protocol inside another one as its own name and parameters."""
    parameters = {
        key: {"name": value.name, **protocol_parameters(value)} if isinstance(value, SplitProtocol) else value
        for key, value in vars(protocol).items()
    }
    return one_spelling(type(protocol), parameters)


def protocol_code(protocol: SplitProtocol) -> dict[str, Any]:
    """Which code draws the rows; that of a protocol inside it under `inner`."""
    inner = {key: protocol_code(value) for key, value in vars(protocol).items() if isinstance(value, SplitProtocol)}
    return {**code_of(type(protocol)), **({"inner": inner} if inner else {})}


def describe_head(head: AnyHead) -> dict[str, Any]:
    """What a head is, whatever it is fitted on."""
    files = {name: hash_bytes(Path(name).expanduser().read_bytes()) for name in head.named_files()}
    method = head.inner or head
    patches = {"patches": head.facts} if isinstance(head, PatchRows) else {}
    return {
        "name": head_name(head),
        **code_of(type(method), *method.named_classes()),
        "parameters": {**head_parameters(head), **patches},
        **({"files": files} if files else {}),
    }


def describe(
    backbone: Backbone,
    dataset: Dataset,
    protocol: SplitProtocol,
    head: AnyHead,
    split: Split,
    *,
    seed: int,
    extraction: Mapping[str, Any],
    reads: Mapping[str, Any],
    teacher: Mapping[str, Any] | None,
    usual_teacher: Mapping[str, Any] | None = None,
    test_on: Dataset | None = None,
    calibration: Mapping[str, Any] | None = None,
    texts: Mapping[str, Any] | None = None,
    shuffle_labels: bool = False,
    search: str | None = None,
) -> dict[str, Any]:
    """The determinants of a run, as they stand in its `result.json`."""
    described = describe_head(head)
    if teacher is not None:
        described["parameters"]["teacher"] = dict(teacher)
    named, told = described["name"], dict(described["parameters"])
    if teacher is not None and teacher == usual_teacher:
        del told["teacher"]
    usual = PatchHead().facts
    told |= {f"patches.{k}": v for k, v in told.pop("patches", usual).items() if v != usual[k]}
    rows = {name: [r.partition, digest(r.indices.tolist())] for name, r in parts_of(split).items()}
    other = {} if test_on is None else {"test_on": {"name": test_on.name, "fingerprint": test_on.fingerprint}}
    if test_on is not None:
        rows["test"][1] = digest([rows["test"][1], test_on.fingerprint])  # the same numbers are other rows there
    if tasks := describe_tasks(protocol, dataset if test_on is None else test_on, dataset, seed):
        rows["tasks"] = tasks
    folds, labels = (None if v is None else v.tolist() for v in (split.folds, split.train_labels))
    read_by = describe_readers(dataset, test_on)
    apart = teacher is not None or search is not None
    if chosen_on_folds(head, dataset, protocol, split, seed, apart=apart) is not split:
        described["chosen_on"] = "folds"
    by = f" ({search})" if search else ""
    of_labels = " (shuffled labels)" if shuffle_labels else ""
    joint = " (joint)" if isinstance(protocol, ComesInTasks) and not head.streams else ""
    return {
        "labels": {
            "backbone": label(
                backbone.name,
                {
                    **{kind: read_by_label(kind, read) for kind, read in reads.items()},
                    **{k: v for k, v in extraction.items() if k in SHOWN},
                },
            ),
            "dataset": dataset.name if test_on is None else f"{dataset.name} to {test_on.name}",
            "head": label(named, told, *bases_of(named, type(head.inner or head), head_parameters))
            + by
            + joint
            + of_labels,
            "protocol": label(
                protocol.name,
                protocol_parameters(protocol),
                *bases_of(protocol.name, type(protocol), protocol_parameters),
            ),
        },
        "seed": seed,
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "class_names": list(dataset.class_names),
            "target": dataset.target.name,
            **dataset.target.facts,
            **describe_groups(dataset, split, dataset if test_on is None else test_on),
            "test_rows": rows["test"][1],
            **({"read_by": read_by} if read_by else {}),
            **other,
        },
        "protocol": {
            "name": protocol.name,
            **protocol_code(protocol),
            "parameters": protocol_parameters(protocol),
            **{f"n_{name}": len(r) for name, r in parts_of(split).items()},
            "rows": digest([rows, folds, labels]),
        },
        "backbone": {
            "name": backbone.name,
            **code_of(type(getattr(backbone, "backbone", backbone))),  # that of which views are taken
            "identity": digest(identity_of(backbone)),
            "n_parameters": backbone.n_parameters,
        },
        "head": described,
        "extraction": {**extraction, "reads": dict(reads)},
        **({} if calibration is None else {"calibrate": dict(calibration)}),
        **({"search": search} if search else {}),
        **({"shuffle_labels": True} if shuffle_labels else {}),
        **({} if texts is None else {"texts": dict(texts)}),
        **({"metrics_by": turned} if (turned := recipes()) else {}),
        "version": __version__,
    }


def read_by_label(kind: str, read: Any) -> str | int:
    """What a label says of what stands in for a kind: layers side by side by name, of a grid how many."""
    if isinstance(read, str):
        return read
    return "+".join(name.removesuffix(":map") for name in read) if kind == "map" else len(read)


def describe_groups(dataset: Dataset, split: Split, tested: Dataset) -> dict[str, str]:
    """What tells which rows belong together: no part of a fingerprint, but of choices and of what is measured.

    Within `train` it is the numbers of the groups. Rows of other partitions meet those that train by name.
    """
    groups = groups_of(dataset)
    found = {} if groups is None else {"groups": digest(groups.tolist())}
    trained = np.unique(group_names(dataset, split.train)).tolist()
    for part, of, rows in (("validation", dataset, split.validation), ("test", tested, split.test)):
        apart = of is not dataset or rows.partition != split.train.partition
        if apart and len(rows) and len(names := group_names(of, rows)):
            found[f"{part}_groups"] = digest([trained, names.tolist()])
    return found


def describe_readers(dataset: Dataset, test_on: Dataset | None) -> dict[str, Any]:
    """Which code reads the rows of each partition that this package does not read itself."""
    partitions = {**dataset.partitions, **({} if test_on is None else {"test_on": test_on.partitions["test"]})}
    return {name: code for name, partition in partitions.items() if (code := rows_code(partition))}


def describe_tasks(protocol: SplitProtocol, tested: Dataset, dataset: Dataset, seed: int) -> list[str]:
    """What tells which training rows come when, and which test rows ask for them; empty where all come at once."""
    if not isinstance(protocol, ComesInTasks):
        return []
    sessions = getattr(tested.partitions["test"], "sessions", None)
    named = [digest([task.name, task.rows.indices.tolist()]) for task in protocol.tasks(dataset, seed)]
    return named if sessions is None else [*named, digest([str(session) for session in sessions])]


def cannot_be_known(determinants: Mapping[str, Any]) -> str:
    """A sentence on code of a run that cannot be read, so that no later run can be known to be the same; else empty."""
    parts = {name: determinants[name] for name in ("head", "backbone", "protocol", "dataset")}
    parts |= determinants.get("own_metrics", {})
    hidden = [name for name, facts in parts.items() if is_unknown(facts)]
    if not hidden:
        return ""
    return (
        f"the source of {', '.join(str(parts[name].get('class', name)) for name in hidden)} cannot be read, so that "
        "its runs cannot be known again and each is run anew: write it into a file"
    )


def run_name(determinants: Mapping[str, Any]) -> str:
    """The run folder's name: what it is, for people, and the digest of what determines it."""
    labels, head = determinants["labels"], determinants["head"]["name"]
    parts = [labels["backbone"], labels["dataset"], determinants["protocol"]["name"], head]
    # File systems take 255 bytes, a few of them for what is added while a run is written.
    return f"{slug(*parts)[:LONGEST_LABEL]}-s{determinants['seed']}-{digest(determinants)[:8]}"
