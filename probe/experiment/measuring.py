"""The scores of a run on its test rows, all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.core.base import Rows
from probe.experiment.calibration import calibrate
from probe.experiment.fitting import Fitted
from probe.experiment.reading import ReadRows
from probe.experiment.request import Drawn
from probe.metrics.classification import by_frequency
from probe.metrics.evaluate import evaluate
from probe.metrics.rows import Measured
from probe.metrics.scores import score_rows
from probe.protocols.shared.groups import groups_among


@dataclass(frozen=True)
class Scored:
    """Metrics of the test rows, and what else the record keeps of how they came about, by its name there."""

    measured: Measured
    more: dict[str, Any]


def measure(drawn: Drawn, rows: ReadRows, fitted: Fitted) -> Scored:
    """Scores logits; over all tasks too where rows came in tasks, and calibrated ones where that is asked for.

    The intervals of all runs come from the same resamples (seed 0), which a sweep then draws once.
    """
    dataset = drawn.checked.asked.dataset
    n_classes, target = len(dataset.class_names), dataset.target
    measured, more = Measured(evaluate(fitted.logits, rows.test.y, target=target.name)), {}
    if target.exclusive:
        counts = np.bincount(np.concatenate([rows.train.y, rows.validation.y]), minlength=n_classes)
        measured.add(by_frequency(score_rows(fitted.logits, rows.test.y), counts, seed=0))
    if fitted.tasks:
        measured.add(fitted.tasks.measured)
        more["tasks"] = fitted.tasks.record
    if drawn.held_out is not None:
        calibrated = calibrate(
            fitted.unfitted, rows, np.isin(rows.train.rows, drawn.held_out),
            n_classes=n_classes, seed=0, level=drawn.checked.asked.conformal_level,
            groups=groups_among(dataset, Rows(drawn.split.train.partition, rows.train.rows)),
        )  # fmt: skip
        measured.add(calibrated.measured)
        more["calibration"] = calibrated.record
    return Scored(measured, more)
