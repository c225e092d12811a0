"""How far probabilities can be believed.

Chance alone makes a binned calibration error positive, more so with few rows: the values are the usual, biased ones,
their intervals take the bias into account; `rms_calibration_error` is the debiased measure.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.bins import N_BINS, equal_mass_bins, equal_width_bins, sums_by_bin
from probe.metrics.shared.intervals import QUANTILES, FloatArray, Interval, absolute_sum, mean_with_errors
from probe.metrics.shared.metric import Metric
from probe.metrics.shared.scores.one_class import RowScores

RECIPE = "3"  # losses have intervals for errors not seen; before "2" rows of one confidence were parted
FLOOR = float(np.finfo(np.float64).eps)
"""Probabilities below this count as this in the log loss, as in scikit-learn: at most 36.04 nats a row."""


def log_loss(scores: RowScores) -> FloatArray:
    """-log of the true class's probability, natural logarithm, floored at `FLOOR`, (N,)."""
    return -np.maximum(scores.label_log_probability, np.log(FLOOR))


def brier(scores: RowScores) -> FloatArray:
    """Squared distance of the probabilities from the one-hot label, 0..2, (N,)."""
    return scores.squared_norm - 2 * np.exp(scores.label_log_probability) + 1


def _log_loss_interval(scores: RowScores, means: FloatArray, seed: int) -> Interval:
    return mean_with_errors(log_loss(scores), scores.correct, -np.log(np.maximum(1 - scores.confidence, FLOOR)))


def _brier_interval(scores: RowScores, means: FloatArray, seed: int) -> Interval:
    return mean_with_errors(brier(scores), scores.correct, scores.squared_norm - 2 * (1 - scores.confidence) + 1)


def width_gaps(scores: RowScores) -> FloatArray:
    """`gaps_by_bin` of bins of equal width."""
    return gaps_by_bin(scores, equal_width_bins(scores.confidence))


def mass_gaps(scores: RowScores) -> FloatArray:
    """`gaps_by_bin` of bins of equal size."""
    return gaps_by_bin(scores, equal_mass_bins(scores.confidence))


def gaps_by_bin(scores: RowScores, bins: IntArray) -> FloatArray:
    """Confidence minus correctness of each row, in the column of its bin, zero elsewhere, (N, bins)."""
    gaps = np.zeros((len(bins), N_BINS))
    gaps[np.arange(len(bins)), bins] = scores.confidence - scores.correct
    return gaps


def gap_rows(scores: RowScores, bins: IntArray) -> FloatArray:
    """Confidence minus correctness of each row, with the sign of its bin's gap: the mean is the calibration error."""
    gap = scores.confidence - scores.correct
    return gap * np.take_along_axis(np.sign(sums_by_bin(gap, bins, N_BINS)), bins, axis=-1)


def ece(scores: RowScores) -> FloatArray:
    """Expected calibration error: the sum over 15 bins of |sum of (confidence - correct) in the bin| / N.

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017, arXiv 1706.04599.
    """
    return gap_rows(scores, equal_width_bins(scores.confidence))


def ece_equal_mass(scores: RowScores) -> FloatArray:
    """The same over bins that hold as many rows each, but for rows of one confidence, which share a bin."""
    return gap_rows(scores, equal_mass_bins(scores.confidence))


def _rms_interval(scores: RowScores, means: FloatArray, seed: int) -> Interval:
    sizes = np.bincount(equal_mass_bins(scores.confidence), minlength=N_BINS)
    return debiased_rms(mass_gaps(scores), means, sizes)


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


_OF_ROWS = (
    Metric(name="log_loss", per_row=log_loss, interval=_log_loss_interval, better="lower", unit="nats",
           needs=("label_probability",), stacks=True, tolerance=1e-3),
    Metric(name="brier", per_row=brier, interval=_brier_interval, better="lower"),
    Metric(name="ece", per_row=ece, columns=width_gaps, better="lower", unit="%",
           interval=lambda scores, means, seed: absolute_sum(width_gaps(scores), means),
           needs=("predicted_probability", "label_rank"), stacks=True, tolerance=np.inf),
    Metric(name="ece_equal_mass", per_row=ece_equal_mass, columns=mass_gaps, better="lower", unit="%",
           interval=lambda scores, means, seed: absolute_sum(mass_gaps(scores), means),
           needs=("predicted_probability", "label_rank"), stacks=True, tolerance=1e-4),
    Metric(name="rms_calibration_error", columns=mass_gaps, interval=_rms_interval, better="lower", unit="%",
           unranked="it is a root that is cut at 0, and there no row has a part in it"),
)  # fmt: skip
METRICS = (
    *_OF_ROWS,
    # Of a second fit, after temperature scaling; the predictions of the run are not its own.
    *(
        replace(metric, name=f"scaled_{metric.name}", reads="scaled", needs=(), stacks=False, tolerance=1e-4)
        for metric in _OF_ROWS
    ),
)
