"""All metrics of one run."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from probe.core.source import FIRST_RECIPE
from probe.metrics.calibration import calibration
from probe.metrics.classification import mean_per_class, top_k, worst_class
from probe.metrics.intervals import Interval
from probe.metrics.multilabel import evaluate_targets, row_values
from probe.metrics.ranking import aurc, auroc, average_precision
from probe.metrics.scores import score_rows

MAX_RANKED_CLASSES = 100
BY_TARGET: dict[str, Callable[..., dict[str, Interval]]] = {"labels": evaluate_targets}
"""What scores the outputs for other targets than one class per row."""
ROWS_BY_TARGET: dict[str, Callable[..., dict[str, Any]]] = {"labels": row_values}
"""What each row adds to each of their metrics."""


def recipes() -> dict[str, str]:
    """The word of every family of metrics, a file of this folder, whose numbers have changed: its `RECIPE`.

    A family that has none gives the numbers that it always gave.
    """
    folder = Path(__file__).parent
    families = {path.stem: import_module(f"{__package__}.{path.stem}") for path in sorted(folder.glob("[!_]*.py"))}
    words = {name: str(getattr(family, "RECIPE", FIRST_RECIPE)) for name, family in families.items()}
    return {name: word for name, word in words.items() if word != FIRST_RECIPE}


def evaluate(
    logits: NDArray[Any], labels: NDArray[Any], *, target: str = "one_class", seed: int = 0
) -> dict[str, Interval]:
    """Scores logits.

    Accuracies: `top1`, `top5` (from 5 classes on), `mean_per_class`, `worst_class`. Probabilities: `log_loss` (nats),
    `brier`, `ece`, `ece_equal_mass`, `rms_calibration_error`. Orders: `aurc`, and up to 100 classes `auroc` and
    `average_precision`, where the rows have two classes or more.

    Args:
        logits: (N, K) unnormalised log-probabilities; -inf for a class that no training row had.
        labels: (N,) class codes 0..K-1; those of the target `labels`, (N, K), are scored by `evaluate_targets`.
        target: Name of what they are.
        seed: Of the bootstrap resamples.
    """
    if target != "one_class":
        return BY_TARGET[target](logits, labels)
    scores = score_rows(logits, labels)
    metrics = {"top1": top_k(scores, 1)}
    if scores.n_classes >= 5:
        metrics["top5"] = top_k(scores, 5)
    metrics |= {"mean_per_class": mean_per_class(scores, seed), "worst_class": worst_class(scores)}
    metrics |= calibration(scores, seed) | {"aurc": aurc(scores)}
    if scores.n_classes <= MAX_RANKED_CLASSES and scores.labels.min() < scores.labels.max():
        metrics |= {
            "auroc": auroc(logits, scores.labels),
            "average_precision": average_precision(logits, scores.labels),
        }
    return metrics
