"""Partitions of arrays and of files, and the checks that every dataset passes before anything slow starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from probe.core.base import Dataset, IntArray, Partition, Split, digest
from probe.core.errors import InputError
from probe.core.files import file_digests
from probe.core.hashing import hash_arrays, hash_bytes
from probe.core.images import read_image
from probe.core.rows import sort_of
from probe.core.targets import Target
from probe.core.targets.one_class import ONE_CLASS
from probe.core.words import counted
from probe.datasets.shared.subsets import subset

LEFT_OUT = "left_out"
"""The note of a dataset that lists what of its source is not among its rows."""


class ArrayPartition:
    """Rows of one array: vectors (N, D), or images as uint8 (N, H, W) greyscale or (N, H, W, 3) RGB.

    Args:
        rows: One entry of the first axis per row.
        labels: Class codes (N,), or what another target says.
        ids: Names of the rows.
        images: Whether rows of more than one axis are images; by default those of uint8 are.
        target: What a label is.
    """

    def __init__(
        self,
        rows: NDArray[Any],
        labels: ArrayLike,
        ids: Sequence[str],
        images: bool | None = None,
        target: Target = ONE_CLASS,
    ):
        self.rows = rows
        self.labels: NDArray[Any] = target.held(labels)
        self.ids = list(ids)
        self._images = rows.ndim > 2 and (rows.dtype == np.uint8 if images is None else images)
        check_lengths({"rows": len(rows), "labels": len(self.labels), "ids": len(self.ids)})

    @cached_property
    def fingerprint(self) -> str:
        """Digest of rows, labels and ids."""
        return hash_arrays({"rows": self.rows, "labels": self.labels, "ids": np.asarray(self.ids, dtype=np.str_)})

    def row_digests(self) -> list[str]:
        """Digest of each row's content: equal rows have equal ones."""
        return self._row_digests

    @cached_property
    def _row_digests(self) -> list[str]:
        return [hash_bytes(np.ascontiguousarray(row).tobytes()) for row in self.rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Any:
        """A PIL image where rows are images, else the row as it stands, such as a (D,) array."""
        value = self.rows[row]
        return Image.fromarray(np.ascontiguousarray(value)) if self._images else value


class ImageFiles:
    """Image files in a given order, decoded when asked for.

    The ids are the paths below the dataset's folder. The fingerprint is that of the files' contents, of labels, ids
    and order; see `probe.core.files` for how it is remembered.
    """

    def __init__(self, root: Path, ids: Sequence[str], labels: ArrayLike, target: Target = ONE_CLASS):
        self.root = root
        self.ids = list(ids)
        self.labels: NDArray[Any] = target.held(labels)
        self._target = target
        check_lengths({"files": len(self.ids), "labels": len(self.labels)})

    @cached_property
    def digests(self) -> list[str]:
        """Digest of each file's content."""
        return file_digests(self.root, self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of contents, labels and ids, in order."""
        return digest([self.ids, self.labels.tolist(), self.digests])

    def row_digests(self) -> list[str]:
        """Digest of each file's content: copies of a file have equal ones."""
        return self.digests

    def subset(self, rows: IntArray) -> ImageFiles:
        """Some of the files; the others are not read for its fingerprint."""
        return ImageFiles(self.root, [self.ids[row] for row in rows], self.labels[rows], self._target)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Image.Image:
        return read_image(self.root / self.ids[row], f"{self.root / self.ids[row]} (row {row})")


def content_cut(digests: Sequence[str], strata: IntArray, fraction: float) -> NDArray[np.bool_]:
    """(N,) mask of test rows for a dataset without any: within each class or stratum, those with the lowest digests.

    Neither a seed nor the order of the rows moves the cut. Rows with equal digests stay together.
    """
    if not 0 < fraction < 1:
        raise InputError(f"test_fraction is {fraction}, expected a share between 0 and 1: set 0.5, say")
    values = np.asarray(digests)
    test = np.zeros(len(values), dtype=bool)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        last = np.sort(values[members])[max(round(len(members) * fraction), 1) - 1]
        test[members] = values[members] <= last
    return test


def count_duplicates(
    data: Dataset,
    test_on: Dataset | None = None,
    valid: Mapping[str, NDArray[np.bool_]] | None = None,
    split: Split | None = None,
) -> dict[str, int]:
    """Rows of every other partition whose exact content is a training row too: leakage.

    Args:
        data: Partitions whose rows have no digests are left out.
        test_on: Whose partition test takes the place of the own one.
        valid: (N,) mask of the rows of a partition that were not skipped; all rows of others count.
        split: Where its test rows are of the partition train, they are what `test` counts, among the other rows of it.
    """
    parts = {**data.partitions, **({} if test_on is None else {"test": test_on.partitions["test"]})}
    digests = {part: np.array(p.row_digests(), dtype=object) for part, p in parts.items() if hasattr(p, "row_digests")}
    for part in digests.keys() & (valid or {}).keys():
        digests[part][~valid[part]] = ""  # type: ignore[index]
    if "train" not in digests:
        return dict.fromkeys(digests, 0)
    if split is not None and split.test.partition == "train":
        digests["test"] = digests["train"][split.test.indices]
        digests["train"] = digests["train"][np.concatenate([split.train.indices, split.validation.indices])]
    train = set(digests["train"]) - {""}
    return {part: sum(d in train for d in ds) for part, ds in digests.items() if part != "train"}


def check_lengths(lengths: Mapping[str, int]) -> None:
    """Refuses what is to stand row by row beside each other and does not."""
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{n} {what}" for what, n in lengths.items())
        raise InputError(f"a partition has {told}, expected as many of each: give one for every row")


def _without_rows_ignored(partition: Partition, target: Target) -> Partition:
    ignored = target.ignored(np.asarray(partition.labels))
    return subset(partition, np.flatnonzero(~ignored)) if ignored.any() else partition


def _ignored_rows(partitions: Mapping[str, Partition], target: Target) -> list[str]:
    counts = {part: int(np.sum(target.ignored(np.asarray(p.labels)))) for part, p in partitions.items()}
    return [f"{counted(n, 'row')} of {part} {target.ignored_phrase}" for part, n in counts.items() if n]


def _sort_of_rows(partition: Partition) -> str | None:
    """What the rows are, where that costs no decoding."""
    if isinstance(partition, ImageFiles):
        return "images"
    return sort_of(partition[0]) if isinstance(partition, ArrayPartition) and len(partition) else None


def make_dataset(
    name: str,
    class_names: Sequence[str],
    partitions: Mapping[str, Partition],
    notes: Mapping[str, Any] | None = None,
    target: Target = ONE_CLASS,
    left_out: Sequence[str] = (),
    rows: str | None = None,
    ordered: bool = False,
) -> Dataset:
    """A dataset whose labels were checked as its target checks them, without the rows whose label is ignored.

    One without a partition test is whole: protocols such as holdout draw test rows from train, others refuse it.

    Args:
        name: How tables call it.
        class_names: In the order of the codes, or of the columns.
        partitions: `train`, and perhaps `test` and `validation`.
        notes: Facts for the record.
        target: What a label is.
        left_out: What a reader of the source might expect among the rows and does not find there, a phrase each.
        rows: What they are, see `Dataset.rows`; None for image files and arrays, which say it themselves.
        ordered: Whether its classes, or numbers to predict, are grades in their order.

    Raises:
        InputError: Everything that is wrong with it, in one sentence: fewer than two classes, a partition without
            rows, labels out of range, a class without a training row.
    """
    target = target.in_order() if ordered else target
    left_out = [*left_out, *_ignored_rows(partitions, target)]
    rows = rows or next(map(_sort_of_rows, partitions.values()), None)
    notes = {**(notes or {}), **({LEFT_OUT: left_out} if left_out else {})}
    partitions = {part: _without_rows_ignored(p, target) for part, p in partitions.items()}
    data = Dataset(name, tuple(class_names), partitions, notes, target, rows=rows)
    if faults := data.faults():
        raise InputError(
            f"dataset {name} cannot be used: {'; '.join(faults)}; expected {target.expected(data.class_names)}"
        )
    return data
