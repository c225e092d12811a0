"""Classes that come in tasks, one task after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.core.base import Dataset, IntArray, Partition, Rows, Split
from probe.core.errors import InputError
from probe.protocols.shared.checks import all_rows
from probe.protocols.shared.draws import priorities
from probe.protocols.shared.tasks import Task


@dataclass(frozen=True)
class ClassIncremental:
    """Divides the classes into tasks, in an order that the seed draws; every task brings all rows of its classes.

    A head that streams takes the rows of each task once and keeps none. No rows validate: what is chosen on the first
    classes need not suit the later ones. `split` gives the rows of all tasks at once.

    Args:
        n_tasks: How many tasks, at least 2 and at most as many as classes.
        first_task: Classes of the first task; null for tasks of equal size (the first ones larger by one where they
            do not come out even).
        task_known: Task-incremental: each test row comes with its task, and numbers over tasks are of predictions
            among the classes of that task alone. `top1` stays that among all classes.
    """

    n_tasks: int = 2
    first_task: int | None = None
    task_known: bool = False
    name: ClassVar[str] = "class_incremental"

    def __post_init__(self) -> None:
        if self.n_tasks < 2 or (self.first_task is not None and self.first_task < 1):
            raise InputError(
                f"n_tasks is {self.n_tasks} and first_task {self.first_task}, expected at least 2 tasks and 1 class "
                "in the first: set protocol.n_tasks and protocol.first_task"
            )

    def classes(self, dataset: Dataset, seed: int) -> list[IntArray]:
        """Class codes of each task."""
        n_classes, first = len(dataset.class_names), self.first_task
        if self.n_tasks > n_classes or (first is not None and self.n_tasks - 1 > n_classes - first):
            among = f"after {first} classes in the first task" if first is not None else "of one class at least"
            raise InputError(
                f"n_tasks is {self.n_tasks}, but dataset {dataset.name} has only {n_classes} classes, too few for "
                f"{self.n_tasks} tasks {among}: set protocol.n_tasks lower"
            )
        order = np.argsort(priorities(n_classes, dataset.fingerprint, seed, "class order"), kind="stable")
        if first is None:
            return np.array_split(order, self.n_tasks)
        return [order[:first], *np.array_split(order[first:], self.n_tasks - 1)]

    def split(self, dataset: Dataset, seed: int) -> Split:
        """All rows at once, as a joint fit sees them; nothing validates."""
        train = all_rows(dataset, "train")
        return Split(train, Rows("train", train.indices[:0]), all_rows(dataset, "test"))

    def tasks(self, dataset: Dataset, seed: int) -> list[Task]:
        """Classes and training rows of each task."""
        labels = np.asarray(dataset.partitions["train"].labels)
        classes = self.classes(dataset, seed)
        rows = [np.flatnonzero(np.isin(labels, codes)) for codes in classes]
        names = [", ".join(dataset.class_names[k] for k in codes) for codes in classes]
        return [Task(*task) for task in zip(names, classes, (Rows("train", r) for r in rows), strict=True)]

    def tasks_of_test_rows(
        self, dataset: Dataset, test: Partition, labels: IntArray, rows: IntArray, seed: int
    ) -> IntArray:
        """Task of each test row, that of its class, (N,)."""
        task_of_class = np.empty(len(dataset.class_names), dtype=np.int64)
        for number, codes in enumerate(self.classes(dataset, seed)):
            task_of_class[codes] = number
        return task_of_class[labels]
