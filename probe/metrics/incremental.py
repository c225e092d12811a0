"""What a head knows after each of the tasks that it learned one after the other.

A[t, j] is the accuracy on the test rows of task j after task t, predicting among the classes that tasks 0..t brought.
Test rows may be of no task (-1), such as those of sessions that never train: they count after every task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.metric import Metric, Statistic

RECIPE = "2"  # intervals that hold near the ceiling and over few seeds; "1" were those of before


def accuracy_matrix(predicted_TN: IntArray, labels: IntArray, tasks: IntArray) -> FloatArray:
    """A, (T, T); NaN for tasks that have not come yet, and for tasks without test rows.

    Args:
        predicted_TN: Class predicted for each test row after each task.
        labels: (N,) true class codes.
        tasks: (N,) task to which each test row belongs, or -1.
    """
    n_tasks = len(predicted_TN)
    correct = predicted_TN == labels
    A = np.full((n_tasks, n_tasks), np.nan)
    for j in range(n_tasks):
        if (tasks == j).any():
            A[j:, j] = correct[j:, tasks == j].mean(axis=1)
    return A


@dataclass(frozen=True)
class TaskScores:
    """Predictions of the test rows after each of T tasks.

    Attributes:
        predicted: (T, N) classes.
        labels: (N,) true class codes.
        tasks: (N,) task to which each test row belongs, or -1.
    """

    target: ClassVar[str] = "one_class"

    predicted: IntArray
    labels: IntArray
    tasks: IntArray

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(T, N) where the prediction is right."""
        return self.predicted == self.labels


def a_last(scores: TaskScores) -> FloatArray:
    """1 where the prediction after the last task is right."""
    return scores.correct[-1].astype(np.float64)


def a_avg(scores: TaskScores) -> Statistic:
    """Mean of the accuracies after each task on the rows of all tasks seen.

    Rows count alike: with tasks of unequal size this is not the mean over A[t, :].
    """
    correct, tasks = scores.correct, scores.tasks
    return _mean([_share(correct[t], tasks <= t) for t in range(len(correct)) if (tasks <= t).any()])


def forgetting(scores: TaskScores) -> Statistic:
    """Mean, over all tasks but the last, of the best earlier accuracy minus the last; below 0 where later tasks helped.

    max_{j <= t < T-1} A[t, j] - A[T-1, j], its derivative with the best earlier task as found. Source: A. Chaudhry et
    al., "Riemannian Walk for Incremental Learning", 2018, arXiv 1801.10112.
    """
    correct, last, lost = scores.correct, len(scores.correct) - 1, []
    for j in range(last):
        if (scores.tasks == j).any():
            earlier = [_share(correct[t], scores.tasks == j) for t in range(j, last)]
            best, best_slope = max(earlier, key=lambda share: share[0])
            end, end_slope = _share(correct[last], scores.tasks == j)
            lost.append((best - end, best_slope - end_slope))
    return _mean(lost)


def backward_transfer(scores: TaskScores) -> Statistic:
    """Mean, over all tasks but the last, of A[T-1, j] - A[j, j]: below 0 where later tasks cost what was learnt.

    Source: D. Lopez-Paz and M. Ranzato, "Gradient Episodic Memory for Continual Learning", 2017, arXiv 1706.08840.
    """
    correct, last, gained = scores.correct, len(scores.correct) - 1, []
    for j in range(last):
        if (of := scores.tasks == j).any():
            (end, end_slope), (first, first_slope) = _share(correct[last], of), _share(correct[j], of)
            gained.append((end - first, end_slope - first_slope))
    return _mean(gained)


def _share(correct: NDArray[np.bool_], of: NDArray[np.bool_]) -> Statistic:
    """Share of correct rows among some."""
    share = float(correct[of].mean())
    return share, of * (correct - share) / of.sum()


def _mean(parts: list[Statistic]) -> Statistic:
    return float(np.mean([part[0] for part in parts])), np.mean([part[1] for part in parts], axis=0)


def _seen(scores: TaskScores) -> bool:
    return bool((scores.tasks < len(scores.predicted)).any())


def _has_earlier(scores: TaskScores) -> bool:
    return bool(((scores.tasks >= 0) & (scores.tasks < len(scores.predicted) - 1)).any())


METRICS = (
    Metric(name="a_last", reads="tasks", per_row=a_last, interval="wilson", unit="%", proportion=True, binary=True),
    Metric(name="a_avg", reads="tasks", of_all=a_avg, interval="jackknife", suits=_seen, unit="%", proportion=True),
    Metric(name="forgetting", reads="tasks", of_all=forgetting, interval="jackknife", suits=_has_earlier,
           better="lower", unit="%", signed=True),
    Metric(name="backward_transfer", reads="tasks", of_all=backward_transfer, interval="jackknife", suits=_has_earlier,
           unit="%", signed=True),
)  # fmt: skip
