"""What protocols whose training rows come in tasks, one task after the other, have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from probe.core.base import Dataset, IntArray, Partition, Rows, Split


@dataclass(frozen=True)
class Task:
    """What comes at once: its name, the codes of its classes, and its training rows."""

    name: str
    classes: IntArray
    rows: Rows


@runtime_checkable
class ComesInTasks(Protocol):
    """A protocol whose training rows come in tasks; `split` gives the rows of all tasks at once."""

    @property
    def name(self) -> str: ...
    def split(self, dataset: Dataset, seed: int) -> Split: ...
    def tasks(self, dataset: Dataset, seed: int) -> list[Task]:
        """The tasks in the order in which they come."""
        ...

    def tasks_of_test_rows(
        self, dataset: Dataset, test: Partition, labels: IntArray, rows: IntArray, seed: int
    ) -> IntArray:
        """Task whose knowledge each test row asks for, (N,), -1 for none.

        Args:
            dataset: That the tasks are made of.
            test: Its test partition, or that of another dataset.
            labels: (N,) labels of the test rows as class codes of `dataset`.
            rows: (N,) their numbers in the partition.
            seed: Of the run.
        """
        ...
