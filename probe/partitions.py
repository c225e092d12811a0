"""Partitions held in memory, and the checks that every dataset passes before anything slow starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from probe.base import Dataset, IntArray, Partition
from probe.errors import InputError
from probe.hashing import hash_arrays


class ArrayPartition:
    """Rows of one array: vectors (N, D), or images as uint8 (N, H, W) greyscale or (N, H, W, 3) RGB."""

    def __init__(self, rows: NDArray[Any], labels: ArrayLike, ids: Sequence[str]):
        self.rows = rows
        self.labels: IntArray = np.asarray(labels, dtype=np.int64)
        self.ids = list(ids)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of rows, labels and ids."""
        return hash_arrays({"rows": self.rows, "labels": self.labels, "ids": np.asarray(self.ids, dtype=np.str_)})

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Any:
        """A PIL image where rows are images, else a (D,) array."""
        value = self.rows[row]
        return Image.fromarray(value) if value.ndim > 1 else value


def make_dataset(
    name: str,
    class_names: Sequence[str],
    partitions: Mapping[str, Partition],
    notes: Mapping[str, Any] | None = None,
) -> Dataset:
    """A dataset whose labels were checked.

    Raises:
        InputError: Everything that is wrong with it, in one sentence: fewer than two classes, a partition without
            rows, labels out of range, a class without a training row.
    """
    class_names = tuple(class_names)
    n_classes = len(class_names)
    faults = []
    if n_classes < 2:
        faults.append(f"it has {n_classes} class{'' if n_classes == 1 else 'es'} ({', '.join(class_names)})")
    twice = sorted({c for c in class_names if class_names.count(c) > 1}) if len(set(class_names)) < n_classes else []
    if twice:
        faults.append(f"class name {twice[0]!r} stands for more than one class")
    for part in ("train", "test"):
        if part not in partitions:
            faults.append(f"it has no {part} partition, only {', '.join(partitions) or 'nothing'}")
    for part, partition in partitions.items():
        labels = partition.labels
        outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
        if len(labels) == 0:
            faults.append(f"{part} has no rows")
        elif len(outside):
            row = outside[0]
            faults.append(
                f"{part} has {len(outside)} labels out of range, the first is {labels[row]} in row {row} "
                f"({partition.ids[row]})"
            )
        elif part == "train":
            empty = np.flatnonzero(np.bincount(labels, minlength=n_classes) == 0)
            if len(empty):
                names = ", ".join(class_names[i] for i in empty[:3]) + (", ..." if len(empty) > 3 else "")
                faults.append(f"train ({len(labels)} rows) has no row of {len(empty)} of {n_classes} classes ({names})")
    if faults:
        raise InputError(
            f"dataset {name} cannot be used: {'; '.join(faults)}; expected at least 2 classes, labels from 0 to "
            f"{max(n_classes - 1, 1)} and a training row of every class: mend its labels or leave such classes out"
        )
    return Dataset(name, class_names, dict(partitions), dict(notes or {}))
