"""All metrics of one run."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from probe.metrics.calibration import log_loss_and_ece
from probe.metrics.classification import mean_per_class, top_k
from probe.metrics.intervals import Interval
from probe.metrics.scores import score_rows


def evaluate(logits: NDArray[Any], labels: NDArray[Any], *, seed: int = 0) -> dict[str, Interval]:
    """Scores logits: `top1`, `top5` (from 5 classes on), `mean_per_class`, `log_loss` (nats), `ece`.

    Args:
        logits: (N, K) unnormalised log-probabilities; -inf for a class that no training row had.
        labels: (N,) class codes 0..K-1.
        seed: Of the bootstrap resamples.
    """
    scores = score_rows(logits, labels)
    log_loss, ece = log_loss_and_ece(scores, seed)
    metrics = {"top1": top_k(scores, 1)}
    if scores.n_classes >= 5:
        metrics["top5"] = top_k(scores, 5)
    return metrics | {"mean_per_class": mean_per_class(scores, seed), "log_loss": log_loss, "ece": ece}
