"""How good predicted normal distributions are, of heads that give a mean and a scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtr

from probe.core.base import IntArray
from probe.metrics.shared.influences import LOGARITHM, PLAIN, Scale, studentized
from probe.metrics.shared.intervals import FloatArray, Interval
from probe.metrics.shared.metric import OF_THE_TARGET, Metric
from probe.metrics.shared.scores.number import Numbers


@dataclass(frozen=True)
class NormalScores:
    """Normal distributions of the test rows.

    Attributes:
        means, scales: (N, Q) of each row and column.
        labels: (N, Q) true numbers.
        groups: (N,) as `NumberScores` has them.
    """

    target: ClassVar[str] = "number"

    means: Numbers
    scales: Numbers
    labels: Numbers
    groups: IntArray | None = None


def crps(scores: NormalScores) -> FloatArray:
    """s [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)] with z = (y - m) / s, mean over the columns, (N,).

    Continuous ranked probability score: the integral of the squared distance of the distribution functions, which is
    the absolute error where s is 0. Source: T. Gneiting and A. Raftery, "Strictly Proper Scoring Rules", 2007.
    """
    z = (scores.labels - scores.means) / scores.scales
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return (scores.scales * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))).mean(axis=1)


def negative_log_likelihood(scores: NormalScores) -> FloatArray:
    """log s + z^2 / 2 + log(2 pi) / 2, mean over the columns, (N,); it moves with the unit by its logarithm."""
    z = (scores.labels - scores.means) / scores.scales
    return (np.log(scores.scales) + z**2 / 2).mean(axis=1) + np.log(2 * np.pi) / 2


def _metric(name: str, per_row: Callable[[NormalScores], FloatArray], scale: Scale, unit: str, signed: bool) -> Metric:
    def interval(scores: NormalScores, means: FloatArray, seed: int) -> Interval:
        values = per_row(scores)
        return studentized(float(values.mean()), (values - values.mean()) / len(values), scores.groups, scale)

    return Metric(name=name, reads="normal", targets=("number",), per_row=per_row, interval=interval, better="lower",
                  unit=unit, signed=signed)  # fmt: skip


METRICS = (
    _metric("crps", crps, LOGARITHM, OF_THE_TARGET, False),
    _metric("negative_log_likelihood", negative_log_likelihood, PLAIN, "nats", True),
)
