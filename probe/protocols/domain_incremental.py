"""Sessions that come one after the other: the same classes in new surroundings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset, IntArray, Partition, Rows, Split
from probe.core.errors import InputError
from probe.protocols.shared.checks import all_rows
from probe.protocols.shared.draws import priorities
from probe.protocols.shared.tasks import Task


@dataclass(frozen=True)
class DomainIncremental:
    """Training rows come session by session, as the dataset names them; every session brings all of its rows.

    The partitions have `sessions`, an (N,) array of names or numbers (a camera, a place, a day). A head that streams
    takes the rows of each session once and keeps none. No rows validate. Test rows of a session that never trains
    (the usual case where whole sessions are held out, as in CORe50) count after every session.
    Source of the setting: V. Lomonaco and D. Maltoni, "CORe50: a New Dataset and Benchmark for Continuous Object
    Recognition", 2017, arXiv 1705.03550.

    Args:
        order: `named`, sessions as they sort (numbers by size), or `shuffled`, an order that the seed draws.
    """

    order: str = "named"
    name: ClassVar[str] = "domain_incremental"

    def __post_init__(self) -> None:
        if self.order not in ("named", "shuffled"):
            raise InputError(f"order is {self.order!r}, expected named or shuffled: set protocol.order")

    def split(self, dataset: Dataset, seed: int) -> Split:
        """All rows at once, as a joint fit sees them; nothing validates."""
        self._ordered(dataset, seed)
        train = all_rows(dataset, "train")
        return Split(train, Rows("train", train.indices[:0]), all_rows(dataset, "test"))

    def tasks(self, dataset: Dataset, seed: int) -> list[Task]:
        """Name, classes and training rows of each session."""
        sessions, labels = _sessions(dataset.partitions["train"]), np.asarray(dataset.partitions["train"].labels)
        assert sessions is not None  # or `_ordered` refuses
        found = []
        for session in self._ordered(dataset, seed):
            rows = np.flatnonzero(sessions == session)
            found.append(Task(str(session), np.unique(labels[rows]), Rows("train", rows)))
        return found

    def tasks_of_test_rows(
        self, dataset: Dataset, test: Partition, labels: IntArray, rows: IntArray, seed: int
    ) -> IntArray:
        """Place of the session of each test row, -1 where it never trains, (N,)."""
        tasks, sessions = np.full(len(labels), -1, dtype=np.int64), _sessions(test)
        if sessions is not None:
            for place, session in enumerate(self._ordered(dataset, seed)):
                tasks[sessions[rows] == session] = place
        return tasks

    def _ordered(self, dataset: Dataset, seed: int) -> list[Any]:
        sessions = _sessions(dataset.partitions["train"])
        if sessions is None:
            raise InputError(
                f"dataset {dataset.name} names no sessions of its training rows, domain_incremental takes them one "
                "after the other: name their column or array, such as dataset.session_column, or take "
                "class_incremental"
            )
        names = np.array(sorted(np.unique(sessions), key=lambda name: _by_size(str(name))))
        if len(names) < 2:
            raise InputError(
                f"dataset {dataset.name} has {len(names)} session ({names[0]}) in its training rows, expected at least "
                "2: take protocol full"
            )
        if self.order == "shuffled":
            names = names[np.argsort(priorities(len(names), dataset.fingerprint, seed, "session order"), kind="stable")]
        return list(names)


def _sessions(partition: Partition) -> NDArray[Any] | None:
    sessions = getattr(partition, "sessions", None)
    return None if sessions is None else np.asarray(sessions)


def _by_size(name: str) -> list[Any]:
    """A key that sorts `s2` before `s10`."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]
