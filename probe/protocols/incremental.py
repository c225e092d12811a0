"""What protocols whose training rows come in tasks, one task after the other, have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from probe.arrays import RowStack
from probe.base import Dataset, IntArray, Partition, Rows, Split
from probe.estimator import Head


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
