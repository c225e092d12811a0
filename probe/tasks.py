"""How a head learns classes that come task by task, and what the record says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.base import IntArray, SplitProtocol
from probe.errors import DoesNotFit
from probe.estimator import Head
from probe.metrics.incremental import accuracy_matrix, incremental_metrics
from probe.metrics.intervals import Interval
from probe.protocols.class_incremental import ClassIncremental, Task, logits_after_each_task, streams


@dataclass(frozen=True)
class TaskByTask:
    """Metrics over all tasks; for the record the classes, the accuracy matrix and whether the head streamed."""

    metrics: dict[str, Interval]
    record: dict[str, Any]


def check_tasks(protocol: SplitProtocol, head: Head, *, teacher: bool) -> None:
    """Refuses a head that can neither stream nor be refitted on the rows of all tasks so far."""
    if not isinstance(protocol, ClassIncremental) or streams(head):
        return
    if teacher or len(head.consumes) > 1:
        raise DoesNotFit(
            f"head {type(head).__name__} consumes {', '.join(head.consumes)}{' and a teacher' * teacher} and does not "
            "stream, protocol class_incremental refits heads of one kind of features without a teacher: choose another "
            "head or protocol"
        )


def fit_tasks(
    head: Head, parts: Sequence[tuple[Any, IntArray, IntArray]], tasks: Sequence[Task], X_test: Any, y_test: IntArray
) -> TaskByTask:
    """Fits a head task by task, predicting the test rows after each.

    Args:
        head: Is fitted.
        parts: Features, class codes and row numbers of the training rows of each task.
        tasks: The classes of each task.
        X_test: Features of all test rows.
        y_test: Their class codes.
    """
    n_classes = sum(len(task.classes) for task in tasks)
    steps = logits_after_each_task(head, [(X, y) for X, y, _ in parts], X_test, n_classes)
    predicted = np.stack([logits.argmax(axis=1) for logits in steps])
    task_of_class = np.empty(n_classes, dtype=np.int64)
    for number, task in enumerate(tasks):
        task_of_class[task.classes] = number
    matrix = accuracy_matrix(predicted, y_test, task_of_class)
    record = {
        "classes": [task.classes.tolist() for task in tasks],
        "accuracy_matrix": [[None if np.isnan(a) else a for a in row] for row in matrix.tolist()],
        "streamed": streams(head),
    }
    return TaskByTask(incremental_metrics(predicted, y_test, task_of_class), record)
