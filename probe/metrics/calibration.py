"""How far probabilities can be believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.metrics.intervals import FloatArray, Interval, absolute_sum, percentile, resampled_means
from probe.metrics.scores import RowScores

FLOOR = float(np.finfo(np.float64).eps)
"""Probabilities below this count as this in the log loss, as in scikit-learn: at most 36.04 nats a row."""

N_BINS = 15


def row_log_losses(scores: RowScores) -> FloatArray:
    """-log of the true class's probability, natural logarithm, floored at `FLOOR`, (N,)."""
    return -np.maximum(scores.label_log_probability, np.log(FLOOR))


def equal_width_bins(confidence: FloatArray, n_bins: int = N_BINS) -> NDArray[np.int64]:
    """Bin of each row: bin b holds confidences in (b / n_bins, (b + 1) / n_bins]."""
    return np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)


def gaps_by_bin(scores: RowScores, bins: NDArray[np.int64]) -> FloatArray:
    """Confidence minus correctness of each row, in the column of its bin, zero elsewhere, (N, bins)."""
    gaps = np.zeros((len(bins), int(bins.max()) + 1))
    gaps[np.arange(len(bins)), bins] = scores.confidence - scores.correct
    return gaps


def log_loss_and_ece(scores: RowScores, seed: int) -> tuple[Interval, Interval]:
    """Log loss and ECE, their intervals from the same resamples of the rows.

    ECE = sum over 15 equal-width bins of |sum of (confidence - correct) in the bin| / N. Chance alone makes it
    positive, more so with few rows: the value is the usual, biased one, its interval takes the bias into account.
    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017, arXiv 1706.04599.
    """
    losses = row_log_losses(scores)
    gaps = gaps_by_bin(scores, equal_width_bins(scores.confidence))
    means = resampled_means(np.column_stack([losses, gaps]), seed)
    return percentile(float(losses.mean()), means[:, 0]), absolute_sum(gaps, means[:, 1:])
