"""Intervals that hold a number to predict at a chosen rate, whatever the head.

Split conformal prediction: an interval is that of the head, [prediction, prediction] or the quantiles that it gives,
made wider on both sides by the ceil((n + 1) level)-th smallest of the distances by which the numbers of n held-out rows
lie outside theirs, negative inside (infinite if there is none). Of a head that gives a scale for each row the distances
are in scales. Where held-out and test rows are exchangeable, the true number is inside with a probability between level
and level + 1 / (n + 1), the upper end where no two distances are equal. Of a mean, the width is the same for every row;
of quantiles and of scales it follows them.
Source: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; J. Lei et al., "Distribution-Free
Predictive Inference for Regression", 2018, arXiv 1604.04173, with scales in its section 5.2; of quantiles: Y. Romano,
E. Patterson and E. Candès, "Conformalized Quantile Regression", 2019, arXiv 1905.03222.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.influences import LOGARITHM, PLAIN, Scale, studentized
from probe.metrics.shared.intervals import FloatArray, Interval, wilson
from probe.metrics.shared.metric import OF_THE_TARGET, Metric
from probe.metrics.shared.scores.number import Numbers
from probe.metrics.shared.thresholds import threshold


@dataclass(frozen=True)
class IntervalScores:
    """Intervals of the test rows.

    Attributes:
        low, high: (N, Q) ends.
        labels: (N, Q) true numbers.
        level: Wanted chance that an interval holds the true number.
        groups: (N,) as `NumberScores` has them.
    """

    target: ClassVar[str] = "number"

    low: Numbers
    high: Numbers
    labels: Numbers
    level: float
    groups: IntArray | None = None

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What a run keeps of them, (N,) or (N, Q)."""
        shape = self.low.shape[: 1 + (self.low.shape[1] > 1)]
        ends = {"interval_low": self.low, "interval_high": self.high}
        return {name: end.reshape(shape).astype(np.float32) for name, end in ends.items()}


def margins(low: Numbers, high: Numbers, unit: Numbers, labels: Numbers, level: float) -> Numbers:
    """(Q,) what widens intervals on both sides, by column, in units of each row.

    All are (n, Q), of rows that the head was not fitted on.
    """
    outside = np.maximum(low - labels, labels - high) / unit
    return np.array([threshold(column, level) for column in outside.T])


def covered(scores: IntervalScores) -> FloatArray:
    """Share of the columns whose interval holds the true number, (N,)."""
    inside = (scores.low <= scores.labels) & (scores.labels <= scores.high)
    return inside.mean(axis=1, dtype=np.float64)


def width(scores: IntervalScores) -> FloatArray:
    """Width of the interval, mean over the columns, (N,)."""
    return (scores.high - scores.low).mean(axis=1)


def interval_score(scores: IntervalScores) -> FloatArray:
    """Width + 2 / (1 - level) times the distance to a number outside, mean over the columns, (N,).

    It is least for the quantiles of the truth. Source: T. Gneiting and A. Raftery, "Strictly Proper Scoring Rules,
    Prediction, and Estimation", 2007.
    """
    outside = np.maximum(scores.low - scores.labels, 0) + np.maximum(scores.labels - scores.high, 0)
    return (scores.high - scores.low + 2 / (1 - scores.level) * outside).mean(axis=1)


def _mean(per_row: Callable[[IntervalScores], FloatArray], scale: Scale, scores: IntervalScores) -> Interval:
    values = per_row(scores)
    return studentized(float(values.mean()), (values - values.mean()) / len(values), scores.groups, scale)


def _coverage(scores: IntervalScores) -> Interval:
    """Wilson's where rows are their own groups and have one column, else Student's, cut to 0 and 1."""
    inside = covered(scores)
    if scores.groups is None and scores.labels.shape[1] == 1:
        return wilson(int(inside.sum()), len(inside))
    found = _mean(covered, PLAIN, scores)
    return Interval(found.value, max(0.0, found.low), min(1.0, found.high))


def _finite(scores: IntervalScores) -> bool:
    return bool(np.isfinite(width(scores)).all())


SHARED: dict[str, Any] = {"targets": ("number",), "reads": "intervals"}
_OF_INTERVALS = (
    Metric(name="interval_coverage", per_row=covered, interval=lambda scores, means, seed: _coverage(scores),
           better="target", target="conformal_level", unit="%", proportion=True, **SHARED),
    Metric(name="interval_width", per_row=width, better="lower", unit=OF_THE_TARGET, suits=_finite, **SHARED,
           interval=lambda scores, means, seed: _mean(width, LOGARITHM, scores)),
    Metric(name="interval_score", per_row=interval_score, better="lower", unit=OF_THE_TARGET, suits=_finite, **SHARED,
           interval=lambda scores, means, seed: _mean(interval_score, LOGARITHM, scores)),
)  # fmt: skip
METRICS = (
    *_OF_INTERVALS,
    *(replace(m, name=m.name.replace("interval", "jackknife"), reads="jackknife") for m in _OF_INTERVALS),
)
