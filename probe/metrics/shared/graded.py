"""Scores of rows whose classes or numbers are grades, whatever the target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.core.base import IntArray
from probe.core.targets.number import Numbers


@dataclass(frozen=True)
class GradedScores:
    """Of rows with a grade in each of Q columns.

    Attributes:
        labels: (N, Q) true grades, 0 the lowest.
        predicted: (N, Q) predicted ones.
        n_grades: How many there are, of the column that has most.
        target: Of the rows.
        groups: (N,) as `NumberScores` has them.
    """

    labels: IntArray
    predicted: IntArray
    n_grades: int
    target: str
    groups: IntArray | None = None

    @property
    def apart(self) -> IntArray:
        """(N, Q) grades between the true and the predicted one."""
        return np.abs(self.labels - self.predicted)


def nearest_grades(labels: Numbers, predicted: Numbers, learnt: Numbers) -> GradedScores:
    """Of numbers (N, Q): a prediction is the nearest grade, of two the lower.

    The grades of a column are the numbers that its training or test rows hold.
    """
    pairs, most = [], 0
    for true, of_head, known in zip(labels.T, predicted.T, learnt.T, strict=True):
        grades = np.union1d(known, true)
        middles = (grades[:-1] + grades[1:]) / 2
        pairs.append((np.searchsorted(grades, true), np.searchsorted(middles, of_head, side="left")))
        most = max(most, len(grades))
    true_grades, found = (np.stack(columns, axis=1).astype(np.int64) for columns in zip(*pairs, strict=True))
    return GradedScores(true_grades, found, most, "number")
