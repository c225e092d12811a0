"""What a head knows after each of the tasks that it learned one after the other.

A[t, j] is the accuracy on the test rows of task j after task t, predicting among the classes that tasks 0..t brought.
Test rows may be of no task (-1), such as those of sessions that never train: they count after every task.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from probe.core.base import IntArray
from probe.metrics.intervals import QUANTILES, FloatArray, Interval, wilson
from probe.metrics.rows import Measured


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


def incremental_metrics(predicted_TN: IntArray, labels: IntArray, tasks: IntArray) -> Measured:
    """`a_last`, `a_avg`, and `forgetting` where an earlier task has test rows.

    a_t is the accuracy after task t on the rows of all tasks seen; a_last the last of them, a_avg their mean. Rows
    count alike: with tasks of unequal size this is not the mean over A[t, :]. Forgetting is the mean, over all tasks
    but the last, of the best earlier accuracy minus the last, max_{j <= t < T-1} A[t, j] - A[T-1, j]; below 0 where
    later tasks helped. Source: A. Chaudhry et al., "Riemannian Walk for Incremental Learning", 2018, arXiv 1801.10112.
    Intervals: Wilson's for a_last, else the infinitesimal jackknife over rows with the best earlier task as found.
    """
    correct = predicted_TN == labels
    last = len(predicted_TN) - 1
    seen = [_share(correct[t], tasks <= t) for t in range(last + 1) if (tasks <= t).any()]
    lost = []
    for j in range(last):
        if (tasks == j).any():
            earlier = [_share(correct[t], tasks == j) for t in range(j, last)]
            best, best_slope = max(earlier, key=lambda share: share[0])
            end, end_slope = _share(correct[last], tasks == j)
            lost.append((best - end, best_slope - end_slope))
    metrics = {"a_last": wilson(int(correct[last].sum()), len(labels))}
    rows = {"a_last": correct[last].astype(np.float64)}
    for name, parts, floor in (("a_avg", seen, 0.0), ("forgetting", lost, -1.0)):
        if parts:
            metrics[name], slope = _mean(parts, floor)
            rows[name] = metrics[name].value + len(labels) * slope
    return Measured(metrics, rows)


def _share(correct: NDArray[np.bool_], of: NDArray[np.bool_]) -> tuple[float, FloatArray]:
    """Share of correct rows among some, and its derivative by the weight of each row."""
    share = float(correct[of].mean())
    return share, of * (correct - share) / of.sum()


def _mean(parts: list[tuple[float, FloatArray]], floor: float) -> tuple[Interval, FloatArray]:
    """The mean with its interval, and its derivative by the weight of each row."""
    value = float(np.mean([part[0] for part in parts]))
    slope = np.mean([part[1] for part in parts], axis=0)
    half = float(ndtri(QUANTILES[1]) * np.sqrt((slope**2).sum()))
    return Interval(value, max(floor, value - half), min(1.0, value + half)), slope
