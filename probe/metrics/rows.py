"""What each test row adds to a metric: values whose mean is the metric, that pairing and resampling work on.

A metric that is no mean over rows is linearised: value + N times the derivative of the metric by the row's weight.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.intervals import FloatArray, Interval


@dataclass
class Measured:
    """Some metrics of one run.

    Attributes:
        metrics: By name.
        rows: For those that systems can be ranked by: values of the test rows, (N,), their mean the metric; NaN for
            a row that the metric does not look at.
    """

    metrics: dict[str, Interval] = field(default_factory=dict)
    rows: dict[str, FloatArray] = field(default_factory=dict)

    def add(self, other: Measured, prefix: str = "") -> None:
        """Takes over the metrics of another one, their names behind the prefix."""
        self.metrics |= {prefix + name: value for name, value in other.metrics.items()}
        self.rows |= {prefix + name: values for name, values in other.rows.items()}


def class_mean_rows(
    correct: NDArray[np.bool_], labels: IntArray, classes: NDArray[np.bool_] | None = None
) -> FloatArray:
    """Mean over classes of the share of their rows that is right, row by row.

    With n_c rows in class c, of which a share a_c is right, N rows and K classes that have rows: value = m + N / (K
    n_c) (correct - a_c), m the mean of a_c. Their variance gives that of the stratified estimate.

    Args:
        correct: (N,).
        labels: (N,) class codes.
        classes: Mask of some classes only; rows of the others get NaN.
    """
    inside = np.ones(len(labels), dtype=bool) if classes is None else classes[labels]
    counts = np.bincount(labels[inside])
    shares = np.bincount(labels[inside], weights=correct[inside]) / np.maximum(counts, 1)
    present = counts > 0
    values = np.full(len(labels), np.nan)
    own = labels[inside]
    weight = inside.sum() / (present.sum() * counts[own])
    values[inside] = shares[present].mean() + weight * (correct[inside] - shares[own])
    return values


def gap_rows(confidence: FloatArray, correct: NDArray[np.bool_], bins: IntArray) -> FloatArray:
    """Confidence minus correctness of each row, with the sign of its bin's gap: the mean is the calibration error."""
    gap = confidence - correct
    return gap * np.sign(np.bincount(bins, weights=gap))[bins]
