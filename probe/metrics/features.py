"""What features are worth before any label: measures of the test rows of a run without a head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.metrics.shared.intervals import FloatArray, Interval, normal_half
from probe.metrics.shared.metric import Metric, Statistic


@dataclass(frozen=True)
class FeatureScores:
    """Measures of N rows, by name, each with its derivative by the weight of every row.

    Attributes:
        target: Name of what the labels are, which take no part.
        labels: Of the rows.
        statistics: By the name of the metric.
    """

    target: str
    labels: NDArray[Any]
    statistics: Mapping[str, Statistic]
    logits: None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them, beside the values of the metrics."""
        return {"label": self.labels.astype(np.int64 if self.labels.ndim == 1 else np.uint8)}


def of_name(name: str) -> dict[str, Any]:
    """The functions of a metric that is one of the statistics."""

    def interval(scores: FeatureScores, means: FloatArray, seed: int) -> Interval:
        value, slopes = scores.statistics[name]
        half = normal_half(slopes)
        return Interval(value, value - half, value + half)

    return {
        "suits": lambda scores: bool(np.isfinite(scores.statistics.get(name, (np.nan,))[0])),
        "of_all": lambda scores: scores.statistics[name],
        "interval": interval,
    }


SHARED: dict[str, Any] = {"targets": ("one_class", "labels"), "reads": "features", "signed": True}
METRICS = (
    Metric(name="rankme", shown=True, **SHARED, **of_name("rankme")),
    Metric(name="rankme_of_covariance", **SHARED, **of_name("rankme_of_covariance")),
    Metric(name="alpha_req", better="target", target=1.0, **SHARED, **of_name("alpha_req")),
    Metric(name="nesum", **SHARED, **of_name("nesum")),
    Metric(name="lidar", **SHARED, **of_name("lidar")),
    Metric(name="intrinsic_dimension", better="lower", **SHARED, **of_name("intrinsic_dimension")),
    Metric(name="uniformity", better="lower", **SHARED, **of_name("uniformity")),
    Metric(name="alignment", better="lower", **SHARED, **of_name("alignment")),
)
