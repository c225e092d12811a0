"""The scores of a run on its test rows, read once, and all metrics of them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.core.base import Rows
from probe.core.source import UNKNOWN, source_digest
from probe.experiment.calibration import calibrate
from probe.experiment.fitting import Fitted
from probe.experiment.reading import ReadRows
from probe.experiment.request import Drawn
from probe.heads.shared.head import Head
from probe.metrics import evaluate
from probe.metrics.shared.metric import Measured, Metric, known
from probe.metrics.shared.scores import Frequencies, Scores, score
from probe.protocols.shared.groups import groups_among


@dataclass(frozen=True)
class Scored:
    """Scores and metrics of the test rows.

    Attributes:
        rows: The scores, of which predictions are made too.
        more: What else the record keeps of how metrics came about, by its name there.
        calibrated: The head of the second fit, where calibration was asked for.
    """

    rows: Scores
    measured: Measured
    more: dict[str, Any]
    calibrated: Head | None = None


def measure(drawn: Drawn, rows: ReadRows, fitted: Fitted) -> Scored:
    """Scores logits; over all tasks too where rows came in tasks, and calibrated ones where that is asked for.

    The intervals of all runs come from the same resamples (seed 0), which a sweep then draws once.
    """
    asked, more, calibrated_head = drawn.checked.asked, {}, None
    metrics = [*known().values(), *asked.metrics]
    if fitted.logits is None:
        return Scored(next(iter(fitted.scores.values())), evaluate.measure(fitted.scores, metrics), {}, None)
    n_classes, target = len(asked.dataset.class_names), asked.dataset.target
    of_rows = score(fitted.logits, rows.test.y, target.name)
    learnt = [target.counts(part.y, n_classes) for part in (rows.train, rows.validation) if len(part.y)]
    scores: dict[str, Any] = {"rows": of_rows, "frequency": Frequencies(of_rows, np.sum(learnt, axis=0))}
    if fitted.tasks:
        scores["tasks"] = fitted.tasks.scores
        more["tasks"] = fitted.tasks.record
    if drawn.held_out is not None:
        calibrated = calibrate(
            fitted.unfitted, rows, np.isin(rows.train.rows, drawn.held_out),
            n_classes=n_classes, seed=0, level=asked.conformal_level,
            groups=groups_among(asked.dataset, Rows(drawn.split.train.partition, rows.train.rows)),
        )  # fmt: skip
        scores |= calibrated.scores
        more["calibration"], calibrated_head = calibrated.record, calibrated.head
    return Scored(of_rows, evaluate.measure(scores, metrics), more, calibrated_head)


def described(metric: Metric) -> dict[str, Any]:
    """What a run says of a metric from elsewhere: how it ranks and is shown, and which code computes it."""
    functions = [getattr(f, "func", f) for f in (metric.per_row, metric.of_all, metric.interval) if callable(f)]
    code = source_digest(*functions) or f"{UNKNOWN}{uuid.uuid4().hex}"
    return {**metric.facts, "parameters": dict(metric.parameters), "code": code}
