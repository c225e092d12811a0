"""How far probabilities can be believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.metrics.intervals import QUANTILES, FloatArray, Interval, absolute_sum, percentile, resampled_means
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


def equal_mass_bins(confidence: FloatArray, n_bins: int = N_BINS) -> NDArray[np.int64]:
    """Bin of each row: bins of equal size along the confidence, equal confidences in the order of the rows."""
    ranks = np.empty(len(confidence), dtype=np.int64)
    ranks[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
    return ranks * n_bins // len(confidence)


def brier_rows(scores: RowScores) -> FloatArray:
    """Squared distance of the probabilities from the one-hot label, 0..2, (N,)."""
    return scores.squared_norm - 2 * np.exp(scores.label_log_probability) + 1


def calibration(scores: RowScores, seed: int) -> dict[str, Interval]:
    """`log_loss` (nats), `brier` (0..2), `ece`, `ece_equal_mass`, `rms_calibration_error`: one set of resamples.

    ECE = sum over 15 bins of |sum of (confidence - correct) in the bin| / N, the bins of equal width or of equal
    size. Chance alone makes it positive, more so with few rows: the values are the usual, biased ones, the intervals
    take the bias into account. The last one is the debiased measure, see `debiased_rms`.
    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017, arXiv 1706.04599.
    """
    rows = np.column_stack([row_log_losses(scores), brier_rows(scores)])
    width = gaps_by_bin(scores, equal_width_bins(scores.confidence))
    bins = equal_mass_bins(scores.confidence)
    mass = gaps_by_bin(scores, bins)
    means = resampled_means(np.hstack([rows, width, mass]), seed)
    by_width, by_mass = np.split(means[:, 2:], [width.shape[1]], axis=1)
    return {
        "log_loss": percentile(float(rows[:, 0].mean()), means[:, 0]),
        "brier": percentile(float(rows[:, 1].mean()), means[:, 1]),
        "ece": absolute_sum(width, by_width),
        "ece_equal_mass": absolute_sum(mass, by_mass),
        "rms_calibration_error": debiased_rms(mass, by_mass, np.bincount(bins)),
    }


def debiased_rms(gaps: FloatArray, means: FloatArray, sizes: NDArray[np.int64]) -> Interval:
    """Root of sum_b p_b g_b^2 without what chance adds, g_b the mean gap of bin b and p_b its share of the rows.

    The square of a mean over n rows is high by their variance / n on average; that is subtracted (sample variance,
    n - 1), and a negative rest counts as 0. Bins of one row have no variance and are left out.
    Source: Kumar, Liang and Ma, "Verified Uncertainty Calibration", 2019, arXiv 1909.10155; theirs is the variance of
    the labels, ours that of the gaps, which is smaller where the confidences within a bin say something.
    """
    usable = sizes > 1
    n = sizes[usable]
    share, mean = n / len(gaps), gaps[:, usable].sum(axis=0) / n
    variance = ((gaps[:, usable] ** 2).sum(axis=0) - n * mean**2) / (n - 1)
    squared = float((share * (mean**2 - variance / n)).sum())
    if not len(n):
        return Interval(0.0, 0.0, 1.0)
    replicates = (means[:, usable] ** 2 / share).sum(axis=1)
    low, high = squared + np.quantile(replicates, QUANTILES) - replicates.mean()
    root = [float(np.sqrt(max(0.0, v))) for v in (squared, low, max(high, squared))]
    return Interval(*root)
