"""Datasets whose rows have no single class, as protocols see them: with strata for classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.abilities import Grouped
from probe.core.base import Dataset, IntArray, Partition, Split


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
        # From Python 3.12 on `isinstance` looks for what a partition has without asking `__getattr__`.
        if isinstance(whole, Grouped):
            self.groups = whole.groups

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, row: int) -> Any:
        return self.whole[row]


def with_strata(dataset: Dataset) -> Dataset:
    """A sound dataset as protocols are to see it: itself, or with the strata of its target for classes."""
    target = dataset.target
    if target.exclusive or not target.learnt:
        return dataset
    train = np.asarray(dataset.partitions["train"].labels)
    codes = {name: target.strata(np.asarray(p.labels), train) for name, p in dataset.partitions.items()}
    present = np.unique(codes["train"])
    # Rows of other partitions may be of a stratum that train lacks; nothing is drawn from them by stratum.
    places = {name: np.searchsorted(present, c).clip(max=len(present) - 1) for name, c in codes.items()}
    parts = {name: _StratifiedPartition(p, places[name]) for name, p in dataset.partitions.items()}
    names = target.strata_names(dataset.class_names)
    return _Stratified(dataset.name, tuple(names[k] for k in present), parts, dataset.notes, origin=dataset)


def labels_of(dataset: Dataset, partition: str) -> NDArray[Any]:
    """The labels of a partition themselves, of a dataset as protocols see it."""
    origin = getattr(dataset, "origin", None) or dataset
    return np.asarray(origin.partitions[partition].labels)


@dataclass(frozen=True)
class Shown:
    """Which classes rows show, each any number of them.

    Attributes:
        shown: (N, K).
        class_names: Of these K, which are not the strata.
    """

    shown: NDArray[np.bool_]
    class_names: tuple[str, ...]


def classes_shown(dataset: Dataset, partition: str) -> Shown | None:
    """The classes that the rows of a partition show; None where a row has one class, or shows none by itself."""
    origin = getattr(dataset, "origin", None) or dataset
    if not origin.target.shows_several:
        return None
    return Shown(origin.target.shown_classes(labels_of(dataset, partition)), origin.class_names)


def seen_strata(dataset: Dataset, split: Split) -> IntArray:
    """(N,) classes of the rows of the partition that trains, as those that train see them; their strata where numbers.

    Args:
        dataset: As protocols see it.
        split: Of it, perhaps with other training labels.
    """
    strata = np.asarray(dataset.partitions[split.train.partition].labels)
    return strata if split.train_labels is None or isinstance(dataset, _Stratified) else split.train_labels
