"""Some rows of a partition, and the few rows of a dry run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from probe.core.base import Dataset, IntArray, Partition, digest
from probe.core.errors import InputError
from probe.datasets.shared.row_facts import keep_facts


class PartitionSubset:
    """Some rows of a partition, in a given order, read through it."""

    def __init__(self, whole: Partition, rows: IntArray):
        self.whole, self.chosen = whole, np.asarray(rows, dtype=np.int64)
        self.labels: IntArray = np.asarray(whole.labels)[self.chosen]
        ids: Sequence[str] = whole.ids
        self.ids = [ids[row] for row in self.chosen]
        keep_facts(self, whole, self.chosen)
        if hasattr(whole, "row_digests"):
            self.row_digests = self._row_digests

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the whole partition's fingerprint and of the rows."""
        return digest([self.whole.fingerprint, self.chosen.tolist()])

    def _row_digests(self) -> list[str]:
        every = self.whole.row_digests()  # type: ignore[attr-defined]
        return [every[row] for row in self.chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, row: int) -> Any:
        return self.whole[int(self.chosen[row])]


def subset(partition: Partition, rows: IntArray) -> Partition:
    """Some rows of a partition; those of image files are named by their own contents, without reading the others."""
    if hasattr(partition, "subset"):
        found: Partition = partition.subset(rows)
        keep_facts(found, partition, rows)
        return found
    return PartitionSubset(partition, rows)


def limited(dataset: Dataset, limit: int | None) -> Dataset:
    """At most `limit` rows of each partition, for a dry run; the name says so, and the fingerprint is its own.

    The rows are spread evenly over the classes and over the rows of each class, every class among them, and are the
    same for every seed.

    Raises:
        InputError: The limit is below the number of classes.
    """
    if limit is None:
        return dataset
    n_classes = len(dataset.class_names)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < n_classes:
        raise InputError(
            f"limit is {limit}, expected at least one row for each of the {n_classes} classes of dataset "
            f"{dataset.name}: set limit={n_classes} or more"
        )
    if all(len(partition) <= limit for partition in dataset.partitions.values()):
        return dataset
    partitions = {
        name: subset(p, spread_rows(dataset.target.strata(np.asarray(p.labels)), limit)) if len(p) > limit else p
        for name, p in dataset.partitions.items()
    }
    return replace(dataset, name=f"{dataset.name}(limit={limit})", partitions=partitions)


def spread_rows(strata: IntArray, n: int) -> IntArray:
    """n row numbers, ascending: the first row of each class, then rows evenly spread over the others by class."""
    first = np.unique(strata, return_index=True)[1][:n]
    order = np.argsort(strata, kind="stable")
    others = order[~np.isin(order, first)]
    n_more = n - len(first)
    places = (2 * np.arange(n_more) + 1) * len(others) // (2 * n_more) if n_more else np.empty(0, np.int64)
    return np.sort(np.concatenate([first, others[places]]))
