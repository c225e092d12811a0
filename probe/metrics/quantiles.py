"""How good predicted quantiles are, of heads that give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.core.base import IntArray
from probe.metrics.shared.influences import LOGARITHM, studentized
from probe.metrics.shared.intervals import FloatArray, Interval
from probe.metrics.shared.metric import OF_THE_TARGET, Metric
from probe.metrics.shared.scores.number import Numbers


@dataclass(frozen=True)
class QuantileScores:
    """Quantiles of the test rows.

    Attributes:
        quantiles: (N, Q, L) predicted.
        levels: (L,) their chances.
        labels: (N, Q) true numbers.
        groups: (N,) as `NumberScores` has them.
    """

    target: ClassVar[str] = "number"

    quantiles: Numbers
    levels: Numbers
    labels: Numbers
    groups: IntArray | None = None


def pinball(scores: QuantileScores) -> FloatArray:
    """max(q e, (q - 1) e) with e the true number minus its quantile q, mean over levels and columns, (N,).

    Twice that of the median is the absolute error; twice the mean over all levels is the CRPS.
    """
    errors = scores.labels[:, :, None] - scores.quantiles
    return np.maximum(scores.levels * errors, (scores.levels - 1) * errors).mean(axis=(1, 2))


def _interval(scores: QuantileScores) -> Interval:
    values = pinball(scores)
    return studentized(float(values.mean()), (values - values.mean()) / len(values), scores.groups, LOGARITHM)


METRICS = (
    Metric(name="pinball", reads="quantiles", targets=("number",), per_row=pinball, better="lower", unit=OF_THE_TARGET,
           interval=lambda scores, means, seed: _interval(scores)),
)  # fmt: skip
