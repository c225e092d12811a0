"""Measures: all metrics that suit the scores of a run, each with its interval and the part of every test row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.source import FIRST_RECIPE
from probe.core.targets import DEFAULT
from probe.metrics.shared.intervals import FloatArray, Interval, resampled_means
from probe.metrics.shared.metric import Measured, Metric, known
from probe.metrics.shared.scores import score

RECIPE = "4"  # mAUC and BCA too; "3" for the interval of aurc; "2" for intervals near the ceiling and over few seeds

NO_MEANS = np.empty((0, 0))


def measure(scores: Mapping[str, Any], metrics: Iterable[Metric] | None = None, seed: int = 0) -> Measured:
    """Every metric that suits the scores of a run.

    Args:
        scores: By the name under which metrics read them; each says its `target`.
        metrics: Those to choose from; all of this package by default.
        seed: Of the bootstrap resamples: runs of one seed see the same, which are drawn once per number of rows.
    """
    found = Measured()
    asked = list(known().values() if metrics is None else metrics)
    for name, part in scores.items():
        suited = [m for m in asked if m.reads == name and part.target in m.targets and m.suits(part)]
        means = _resampled(part, suited, seed)
        for metric in suited:
            columns = metric.resampled(part)
            interval, rows = metric.measure(part, NO_MEANS if columns is None else means[columns], seed)
            found.metrics[metric.name] = interval
            if rows is not None and metric.can_rank:
                found.rows[metric.name] = rows
    return found


def _resampled(scores: Any, metrics: Iterable[Metric], seed: int) -> dict[Callable[[Any], FloatArray], FloatArray]:
    """Resampled means of all columns that metrics want, under one set of resamples; by the function that gives them."""
    wanted = list(dict.fromkeys(function for metric in metrics if (function := metric.resampled(scores))))
    if not wanted:
        return {}
    columns = [values[:, None] if values.ndim == 1 else values for values in (function(scores) for function in wanted)]
    ends = np.cumsum([part.shape[1] for part in columns])[:-1]
    parts = np.split(resampled_means(np.hstack(columns), seed), ends, axis=1)
    return dict(zip(wanted, parts, strict=True))


def recipes() -> dict[str, str]:
    """The word of every family of metrics, and of what they share, whose numbers have changed: its `RECIPE`.

    A family that has none gives the numbers that it always gave.
    """
    folder = Path(__file__).parent
    names = [".".join(path.relative_to(folder).with_suffix("").parts) for path in sorted(folder.rglob("[!_]*.py"))]
    families = {name: import_module(f"{__package__}.{name}") for name in names}
    words = {name: str(getattr(family, "RECIPE", FIRST_RECIPE)) for name, family in families.items()}
    return {name: word for name, word in words.items() if word != FIRST_RECIPE}


def evaluate(
    logits: NDArray[Any], labels: NDArray[Any], *, target: str = DEFAULT, seed: int = 0
) -> dict[str, Interval]:
    """The metrics of some logits.

    Of one class per row: `top1`, `top5` (from 5 classes on), `mean_per_class`, `worst_class`; `log_loss` (nats),
    `brier`, `ece`, `ece_equal_mass`, `rms_calibration_error`; `aurc`, and up to 100 classes `auroc` and
    `average_precision`, where the rows have two classes or more; `BCA`, and up to 20 classes `mAUC`. Of several labels:
    `mAP`, `micro_f1`, `macro_f1`.

    Args:
        logits: (N, K) unnormalised log-probabilities, -inf for a class that no training row had; or log-odds of labels.
        labels: (N,) class codes 0..K-1, or (N, K) zeros and ones of the target `labels`.
        target: Name of what they are.
        seed: Of the bootstrap resamples.
    """
    return measure({"rows": score(logits, labels, target)}, seed=seed).metrics
