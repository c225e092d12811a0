from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from probe.core.base import Dataset, IntArray


@dataclass
class LabelsOnly:
    """A partition whose rows are never read: protocols know labels, ids and groups alone."""

    labels: IntArray
    fingerprint: str = "f"
    groups: IntArray | None = None

    @property
    def ids(self) -> list[str]:
        return [str(i) for i in range(len(self.labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> object:
        raise AssertionError("a protocol read a row")


@pytest.fixture
def make_dataset() -> Callable[..., Dataset]:
    """Gives `make(counts, **others)`: class k has counts[k] training rows, in a fixed shuffled order."""

    def make(counts: list[int], groups: IntArray | None = None, **others: IntArray) -> Dataset:
        labels = np.repeat(np.arange(len(counts)), counts)
        labels = labels[np.argsort((np.arange(len(labels)) * 7919) % 10007, kind="stable")]
        partitions = {"train": LabelsOnly(labels, groups=groups), "test": LabelsOnly(np.arange(len(counts)))}
        partitions |= {name: LabelsOnly(np.asarray(y)) for name, y in others.items()}
        return Dataset("rows", tuple(f"c{k}" for k in range(len(counts))), partitions)

    return make
