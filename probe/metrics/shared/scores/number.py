"""Scores of rows with numbers to predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.targets.number import Numbers, columns_of
from probe.metrics.shared.graded import GradedScores, nearest_grades


@dataclass(frozen=True)
class NumberScores:
    """Of rows with a number in each of Q columns.

    Attributes:
        labels: (N, Q) true numbers.
        predicted: (N, Q) means that the head gave.
        groups: (N,) numbers of the groups of the rows, such as patients; None where each row is its own.
    """

    target: ClassVar[str] = "number"
    logits: ClassVar[None] = None

    labels: Numbers
    predicted: Numbers
    groups: IntArray | None = None

    @property
    def errors(self) -> Numbers:
        """(N, Q) true minus predicted."""
        return self.labels - self.predicted

    def in_groups(self, groups: IntArray | None) -> NumberScores:
        """The same of rows that belong to groups."""
        return replace(self, groups=groups)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them, (N,) or (N, Q) float64."""
        shape = self.labels.shape[: 1 + (self.labels.shape[1] > 1)]
        return {"label": self.labels.reshape(shape), "predicted": self.predicted.reshape(shape)}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> NumberScores:
        """The scores again; of a run that predicts nothing the numbers alone."""
        predicted = arrays.get("predicted", np.empty(0))
        return cls(columns_of(arrays["label"]), columns_of(predicted))


@dataclass(frozen=True)
class BesideTraining:
    """Scores of test rows, and the (Q,) means of the rows that the head may learn from."""

    rows: NumberScores
    means: Numbers
    target: ClassVar[str] = "number"


def beside(rows: NumberScores, learnt: NDArray[Any]) -> dict[str, BesideTraining]:
    """With the means of the training rows."""
    return {"training": BesideTraining(rows, columns_of(learnt).mean(axis=0))}


def graded(rows: NumberScores, learnt: NDArray[Any]) -> GradedScores:
    """The nearest grades of the means."""
    return nearest_grades(rows.labels, rows.predicted, columns_of(learnt))


def read(outputs: NDArray[Any], labels: NDArray[Any]) -> NumberScores:
    """Checks predicted and true numbers, (N,) or (N, Q)."""
    predicted, true = columns_of(outputs), columns_of(labels)
    if predicted.shape != true.shape or not len(true):
        raise InputError(
            f"predictions have shape {np.shape(outputs)} and numbers to predict {np.shape(labels)}, expected the same "
            "and at least 1 row: give a mean for each"
        )
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        row = int(np.flatnonzero(~np.isfinite(predicted + true).all(axis=1))[0])
        raise InputError(
            f"row {row} has the prediction {predicted[row].tolist()} for {true[row].tolist()}, expected finite "
            "numbers: the head diverged, or its features are not finite"
        )
    return NumberScores(true, predicted)
