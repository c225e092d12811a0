"""How a head learns what comes task by task, and what the record says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.arrays import RowStack
from probe.core.base import IntArray, Rows
from probe.core.errors import InputError
from probe.experiment.choosing import fit
from probe.experiment.reading import ReadRows, select
from probe.experiment.request import Run
from probe.heads.shared.head import Head
from probe.metrics.incremental import TaskScores, accuracy_matrix
from probe.protocols.shared.groups import grouped_folds, groups_among
from probe.protocols.shared.tasks import ComesInTasks


@dataclass(frozen=True)
class TaskByTask:
    """Scores over all tasks; for the record the classes, the accuracy matrix and whether the head streamed."""

    scores: TaskScores
    record: dict[str, Any]


def fit_tasks(head: Head, asked: Run, rows: ReadRows) -> TaskByTask:
    """Fits a head task by task, predicting the test rows after each."""
    protocol, dataset, seed, y_test = asked.protocol, asked.dataset, asked.seed, rows.test.y
    assert isinstance(protocol, ComesInTasks)
    tasks = protocol.tasks(dataset, seed)
    parts = [select(rows.features, task.rows, head.consumes) for task in tasks]
    if empty := [task.name for task, part in zip(tasks, parts, strict=True) if not len(part.y)]:
        raise InputError(
            f"task {empty[0]} has no training row left once those that cannot be decoded are skipped, expected some in "
            "each task: mend these rows, or set features.on_error=raise to see the first of them"
        )
    test = (asked.test_on or dataset).partitions["test"]
    tasks_of_test_rows = protocol.tasks_of_test_rows(dataset, test, y_test, rows.test.rows, seed)
    n_classes = len(dataset.class_names)
    groups = [groups_among(dataset, Rows("train", part.rows)) for part in parts]
    steps = logits_after_each_task(head, [(part.X, part.y) for part in parts], rows.test.X, n_classes, groups)
    if getattr(protocol, "task_known", False):
        own = np.stack([np.isin(np.arange(n_classes), task.classes) for task in tasks])[tasks_of_test_rows]
        steps = (np.where(own, logits, -np.inf) for logits in steps)
    predicted = np.stack([logits.argmax(axis=1) for logits in steps])
    matrix = accuracy_matrix(predicted, y_test, tasks_of_test_rows)
    record = {
        "names": [task.name for task in tasks],
        "classes": [task.classes.tolist() for task in tasks],
        "n_rows": [len(part.y) for part in parts],
        "accuracies": [_accuracy_of_seen(predicted[t] == y_test, tasks_of_test_rows, t) for t in range(len(tasks))],
        "accuracy_matrix": [[None if np.isnan(a) else a for a in row] for row in matrix.tolist()],
        "streamed": head.streams,
    }
    return TaskByTask(TaskScores(predicted, y_test, tasks_of_test_rows), record)


def logits_after_each_task(
    head: Head,
    tasks: Sequence[tuple[Any, IntArray]],
    X_test: Any,
    n_classes: int,
    groups: Sequence[IntArray | None] = (),
) -> Iterator[NDArray[Any]]:
    """Yields (N, K) logits of the test rows after each task, -inf for the classes that have not come yet.

    A head that streams gets `partial_fit` with the rows of the task alone. Any other is fitted afresh on the rows of
    all tasks so far.

    Args:
        head: Is fitted, and after the last step has seen all tasks.
        tasks: Features and class codes of the training rows of each task.
        X_test: Features of all test rows, of all classes.
        n_classes: K.
        groups: Of the training rows of each task, where the dataset names some: a head chooses on folds of them then.
    """
    parameters = head.get_params(deep=False)
    seen = np.zeros(n_classes, dtype=bool)
    for i, (X, y) in enumerate(tasks):
        seen[y] = True
        logits = np.where(seen, 0.0, -np.inf) * np.ones((len(X_test), 1))
        if head.streams:
            head.partial_fit(X, y, classes=np.arange(n_classes))
        elif seen.sum() > 1:
            X_far, y_far = RowStack([x for x, _ in tasks[: i + 1]])[:], np.concatenate([c for _, c in tasks[: i + 1]])
            named = [group for group in groups[: i + 1] if group is not None]
            folds = grouped_folds(y_far, np.concatenate(named)) if named else None
            fit(head.set_params(**parameters), (X_far, y_far), (None, y_far[:0]), folds, {})
        if seen.sum() > 1:  # one class alone needs no head, and most heads refuse it
            logits[:, head.classes_] += head.logits(X_test)
            logits[:, ~seen] = -np.inf
        yield logits


def _accuracy_of_seen(correct: NDArray[np.bool_], tasks: IntArray, task: int) -> float | None:
    """Accuracy after a task on the test rows of this and all earlier ones; None where there is no such row."""
    seen = tasks <= task
    return float(correct[seen].mean()) if seen.any() else None
