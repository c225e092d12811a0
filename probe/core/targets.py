"""Several labels per row: targets (N, K) of zeros and ones, and the classes that stand in for them in draws.

A dataset is one of these where its labels have two axes. What that means is said here, in `metrics/multilabel.py`, in
`heads/one_vs_rest.py` and in `request.check_multilabel`, which refuses what knows one label per row only. Protocols see
such a dataset through `with_strata`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset, IntArray, Partition
from probe.core.errors import InputError

NO_LABEL = "no label"
"""Name of the stratum of rows without any label."""


def is_multilabel(dataset: Dataset) -> bool:
    """Whether rows have a vector of zeros and ones instead of one class code."""
    return any(np.ndim(partition.labels) == 2 for partition in dataset.partitions.values())


def holds_targets(raw: Mapping[str, Any]) -> bool:
    """Whether labels as they were read are lists, or arrays with a column per label."""
    return any(
        np.ndim(values) == 2 if isinstance(values, np.ndarray) else any(isinstance(v, list | tuple) for v in values)
        for values in raw.values()
    )


def encode_targets(
    raw: Mapping[str, Any], source: str, class_names: Sequence[str] | None, ignore_label: Any = None
) -> tuple[dict[str, IntArray], list[str]]:
    """Targets (N, K) of every partition, and the label names.

    Args:
        raw: Of each partition an array (N, K) of zeros and ones, or a list of labels (numbers or names) for each row.
        source: What the error calls the place where they stand.
        class_names: In the order of the columns or of the labels' numbers; lists of names are sorted by default.
        ignore_label: Refused: it leaves out rows of one class.
    """
    if ignore_label is not None:
        raise InputError(
            f"ignore_label leaves out the rows of one class, in {source} a row has several labels: leave it out"
        )
    if any(isinstance(values, np.ndarray) for values in raw.values()):
        alone = [part for part, values in raw.items() if np.ndim(values) != 2]
        if alone:
            raise InputError(
                f"{alone[0]} has one label per row in {source}, where another partition has a column per label: give "
                "all of them the same columns"
            )
        return _from_columns(raw, source, class_names)
    return _from_lists(raw, source, class_names)


def _from_columns(
    raw: Mapping[str, NDArray[Any]], source: str, class_names: Sequence[str] | None
) -> tuple[dict[str, IntArray], list[str]]:
    for part, values in raw.items():
        odd = np.argwhere(~np.isin(values, (0, 1)))
        if len(odd):
            row, column = (int(i) for i in odd[0])
            raise InputError(
                f"row {row} of {part} has {values[row, column]!r} in label column {column} of {source}, expected 0 or "
                "1: mend it"
            )
    n_labels = next(iter(raw.values())).shape[1]
    codes = {part: values.astype(np.int64) for part, values in raw.items()}
    return codes, list(class_names or [str(k) for k in range(n_labels)])


def _from_lists(
    raw: Mapping[str, Sequence[Any]], source: str, class_names: Sequence[str] | None
) -> tuple[dict[str, IntArray], list[str]]:
    for part, rows in raw.items():
        odd = next((i for i, labels in enumerate(rows) if not isinstance(labels, list | tuple)), None)
        if odd is not None:
            raise InputError(
                f"row {odd} of {part} has {rows[odd]!r} in {source} where other rows have lists of labels, expected a "
                "list: write it as one, empty if no label fits"
            )
    known = {label for labels in raw["train"] for label in labels}
    if any(isinstance(label, str) for label in known):
        order = list(class_names or sorted(map(str, known)))
        number: dict[Any, int] = {name: k for k, name in enumerate(order)}
    else:
        order = list(class_names or [str(k) for k in range(max(map(int, known), default=0) + 1)])
        number = {k: k for k in range(len(order))}
    return {part: _matrix(rows, number, part, source) for part, rows in raw.items()}, order


def _matrix(rows: Sequence[Sequence[Any]], number: Mapping[Any, int], part: str, source: str) -> IntArray:
    targets = np.zeros((len(rows), len(number)), dtype=np.int64)
    for row, labels in enumerate(rows):
        for label in labels:
            if label not in number:
                raise InputError(
                    f"row {row} of {part} has the label {label!r} in {source}, which is none of the {len(number)} "
                    "labels of train: mend it, or name all labels in dataset.class_names"
                )
            targets[row, number[label]] = 1
    return targets


def target_faults(part: str, targets: IntArray, class_names: Sequence[str]) -> list[str]:
    """What is wrong with the targets of a partition."""
    if targets.ndim != 2:
        return [f"{part} has one label per row where another partition has several"]
    if not len(targets):
        return [f"{part} has no rows"]
    if targets.shape[1] != len(class_names):
        return [f"{part} has {targets.shape[1]} label columns and {len(class_names)} names"]
    if not np.isin(targets, (0, 1)).all():
        return [f"{part} has label columns with other values than 0 and 1"]
    if part != "train":
        return []
    counts = targets.sum(axis=0)
    useless = [class_names[int(k)] for k in np.flatnonzero((counts == 0) | (counts == len(targets)))]
    if not useless:
        return []
    named = ", ".join(useless[:3]) + (", ..." if len(useless) > 3 else "")
    return [f"in train {len(useless)} labels stand at no row or at every one ({named})"]


def rows_per_class(labels: IntArray, n_classes: int) -> IntArray:
    """(K,) rows that have each class or label."""
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=n_classes)


def strata(labels: IntArray, counts: IntArray | None = None) -> IntArray:
    """Classes to stratify by, (N,): those of the rows, or the rarest label of each row, K where it has none.

    To share out the rarest labels first is the idea of K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the
    Stratification of Multi-Label Data", 2011; here in one pass, so that draws of different sizes can be nested.

    Args:
        labels: (N,) class codes or (N, K) targets.
        counts: (K,) rows of each label that say which is rare; those of `labels` by default.
    """
    if labels.ndim == 1:
        return labels
    order = np.argsort(labels.sum(axis=0) if counts is None else counts, kind="stable")
    rarest = order[labels[:, order].argmax(axis=1)]
    return np.where(labels.any(axis=1), rarest, labels.shape[1]).astype(np.int64)


@dataclass(frozen=True)
class _Stratified(Dataset):
    """A dataset whose classes are strata; its fingerprint is that of the dataset itself, which the draws follow."""

    origin: Dataset | None = None

    @property
    def fingerprint(self) -> str:
        assert self.origin is not None
        return self.origin.fingerprint


class _StratifiedPartition:
    """A partition with other labels."""

    def __init__(self, whole: Partition, labels: IntArray):
        self.whole, self.labels = whole, labels

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, row: int) -> Any:
        return self.whole[row]


def with_strata(dataset: Dataset) -> Dataset:
    """The dataset as protocols are to see it: itself, or with strata for classes where rows have several labels.

    Raises:
        InputError: Targets that are none.
    """
    if not is_multilabel(dataset):
        return dataset
    names = dataset.class_names
    found = {name: target_faults(name, np.asarray(p.labels), names) for name, p in dataset.partitions.items()}
    if faults := [fault for of_part in found.values() for fault in of_part]:
        raise InputError(f"dataset {dataset.name} cannot be used: {'; '.join(faults)}: mend its labels")
    counts = np.asarray(dataset.partitions["train"].labels).sum(axis=0)
    codes = {name: strata(np.asarray(p.labels), counts) for name, p in dataset.partitions.items()}
    present = np.unique(codes["train"])
    # Rows of other partitions may be of a stratum that train lacks; nothing is drawn from them by stratum.
    places = {name: np.searchsorted(present, c).clip(max=len(present) - 1) for name, c in codes.items()}
    parts = {name: _StratifiedPartition(p, places[name]) for name, p in dataset.partitions.items()}
    return _Stratified(dataset.name, tuple([*names, NO_LABEL][k] for k in present), parts, dataset.notes, dataset)
