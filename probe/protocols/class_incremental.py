"""Classes that come in tasks, one task after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.arrays import RowStack
from probe.base import Dataset, IntArray, Rows, Split
from probe.errors import InputError
from probe.estimator import Head
from probe.protocols.checks import all_rows
from probe.protocols.draws import priorities


@dataclass(frozen=True)
class Task:
    """Some classes and their training rows."""

    classes: IntArray
    rows: Rows


@dataclass(frozen=True)
class ClassIncremental:
    """Divides the classes into tasks, in an order that the seed draws; every task brings all rows of its classes.

    A head that streams takes the rows of each task once and keeps none. No rows validate: what is chosen on the first
    classes need not suit the later ones. `split` gives the rows of all tasks at once.

    Args:
        n_tasks: How many tasks, at least 2 and at most as many as classes.
        first_task: Classes of the first task; null for tasks of equal size (the first ones larger by one where they
            do not come out even).
    """

    n_tasks: int = 2
    first_task: int | None = None
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
        return [Task(codes, Rows("train", np.flatnonzero(np.isin(labels, codes)))) for codes in classes]


def streams(head: Head) -> bool:
    """Whether the head learns a task without the rows of earlier ones; the others give a joint upper bound."""
    return hasattr(head, "partial_fit")


def logits_after_each_task(
    head: Head, tasks: Sequence[tuple[Any, IntArray]], X_test: Any, n_classes: int
) -> Iterator[NDArray[Any]]:
    """Yields (N, K) logits of the test rows after each task, -inf for the classes that have not come yet.

    A head that streams gets `partial_fit` with the rows of the task alone. Any other is fitted afresh on the rows of
    all tasks so far.

    Args:
        head: Is fitted, and after the last step has seen all tasks.
        tasks: Features and class codes of the training rows of each task.
        X_test: Features of all test rows, of all classes.
        n_classes: K.
    """
    seen = np.zeros(n_classes, dtype=bool)
    for i, (X, y) in enumerate(tasks):
        seen[y] = True
        logits = np.where(seen, 0.0, -np.inf) * np.ones((len(X_test), 1))
        if streams(head):
            head.partial_fit(X, y, classes=np.arange(n_classes))
        elif seen.sum() > 1:
            so_far = tasks[: i + 1]
            head.fit(RowStack([x for x, _ in so_far])[:], np.concatenate([codes for _, codes in so_far]))
        if seen.sum() > 1:  # one class alone needs no head, and most heads refuse it
            logits[:, head.classes_] += head.logits(X_test)
            logits[:, ~seen] = -np.inf
        yield logits
