"""How a head learns what comes task by task, and what the record says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.base import IntArray, SplitProtocol
from probe.errors import DoesNotFit, InputError
from probe.estimator import Head
from probe.metrics.incremental import accuracy_matrix, incremental_metrics
from probe.metrics.rows import Measured
from probe.protocols.incremental import ComesInTasks, Task, logits_after_each_task, streams


@dataclass(frozen=True)
class TaskByTask:
    """Metrics over all tasks; for the record the classes, the accuracy matrix and whether the head streamed."""

    measured: Measured
    record: dict[str, Any]


def check_tasks(protocol: SplitProtocol, head: Head, *, teacher: bool) -> None:
    """Refuses a head that can neither stream nor be refitted task by task, and tasks inside a wrapper."""
    inner = getattr(protocol, "protocol", None)
    if isinstance(inner, ComesInTasks):
        raise InputError(
            f"protocol {protocol.name} changes rows that come at once, protocol {inner.name} gives them task by task: "
            "set protocol.protocol to another one, such as full"
        )
    if not isinstance(protocol, ComesInTasks) or streams(head):
        return
    if teacher or len(head.consumes) > 1:
        raise DoesNotFit(
            f"head {type(head).__name__} consumes {', '.join(head.consumes)}{' and a teacher' * teacher} and does not "
            f"stream, protocol {protocol.name} refits heads of one kind of features without a teacher: choose another "
            "head or protocol"
        )


def fit_tasks(
    head: Head,
    tasks: Sequence[Task],
    parts: Sequence[tuple[Any, IntArray, IntArray]],
    test: tuple[Any, IntArray],
    tasks_of_test_rows: IntArray,
    n_classes: int,
) -> TaskByTask:
    """Fits a head task by task, predicting the test rows after each.

    Args:
        head: Is fitted.
        tasks: In the order in which they come.
        parts: Features, class codes and row numbers of the training rows of each task.
        test: Features and class codes of all test rows.
        tasks_of_test_rows: Task of each of them, -1 for none.
        n_classes: Of the dataset.
    """
    X_test, y_test = test
    steps = logits_after_each_task(head, [(X, y) for X, y, _ in parts], X_test, n_classes)
    predicted = np.stack([logits.argmax(axis=1) for logits in steps])
    matrix = accuracy_matrix(predicted, y_test, tasks_of_test_rows)
    record = {
        "names": [task.name for task in tasks],
        "classes": [task.classes.tolist() for task in tasks],
        "n_rows": [len(y) for _, y, _ in parts],
        "accuracies": [_accuracy_of_seen(predicted[t] == y_test, tasks_of_test_rows, t) for t in range(len(tasks))],
        "accuracy_matrix": [[None if np.isnan(a) else a for a in row] for row in matrix.tolist()],
        "streamed": streams(head),
    }
    return TaskByTask(incremental_metrics(predicted, y_test, tasks_of_test_rows), record)


def _accuracy_of_seen(correct: NDArray[np.bool_], tasks: IntArray, task: int) -> float | None:
    """Accuracy after a task on the test rows of this and all earlier ones; None where there is no such row."""
    seen = tasks <= task
    return float(correct[seen].mean()) if seen.any() else None
