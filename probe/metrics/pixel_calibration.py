"""How far probabilities of pixels can be believed, after temperature scaling on images that were held out.

Both are ratios of sums over images, so that the pixels of all test images count alike; images are resampled (or groups
of these), never pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.metrics.shared.bins import N_BINS, equal_width_bins
from probe.metrics.shared.intervals import FloatArray, Interval, absolute_sum, percentile, sums_of_groups
from probe.metrics.shared.metric import Metric, Statistic

FLOOR = float(np.log(np.finfo(np.float64).eps))
"""Of the log-probability of a pixel's class, as in the log loss of rows."""


@dataclass(frozen=True)
class PixelLosses:
    """Of N images: what the probabilities of their labelled pixels are worth.

    Attributes:
        losses: (N,) sums over the pixels of -log of the probability of their class, in nats.
        gaps: (N, bins) sums over the pixels of confidence minus correctness, by bins of confidence of equal width.
        pixels: (N,) how many there are.
        groups: (N,) numbers of the groups of the images; None where each is its own.
    """

    target: ClassVar[str] = "mask"

    losses: FloatArray
    gaps: FloatArray
    pixels: IntArray
    groups: IntArray | None = None


def of_pixels(log_probabilities: NDArray[np.float32], labels: IntArray) -> FloatArray:
    """(2 + bins,) sum of the losses, number of pixels, and sums of gaps.

    Args:
        log_probabilities: (K, n) of the classes of n pixels, -inf for what no head knows.
        labels: (n,) their classes.
    """
    own = np.maximum(log_probabilities[labels, np.arange(len(labels))], FLOOR)
    confidence = np.exp(log_probabilities.max(axis=0))
    gaps = confidence - (log_probabilities.argmax(axis=0) == labels)
    by_bin = np.bincount(equal_width_bins(confidence), weights=gaps, minlength=N_BINS)
    return np.concatenate([[-own.sum(dtype=np.float64), len(labels)], by_bin])


def columns(scores: PixelLosses) -> FloatArray:
    """(N, 2 + bins) what is resampled: of each image, or of each group of images."""
    found = np.column_stack([scores.losses, scores.pixels, scores.gaps])
    return sums_of_groups(found, scores.groups)


def log_loss(scores: PixelLosses) -> Statistic:
    """Mean over all pixels of -log of the probability of their class."""
    n = scores.pixels.sum()
    value = float(scores.losses.sum() / n)
    return value, (scores.losses - value * scores.pixels) / n


def ece(scores: PixelLosses) -> Statistic:
    """Sum over 15 bins of |sum of confidence - correctness of the pixels in the bin| / pixels.

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017, arXiv 1706.04599.
    """
    n, sums = scores.pixels.sum(), scores.gaps.sum(axis=0)
    value = float(np.abs(sums).sum() / n)
    return value, (scores.gaps @ np.sign(sums) - value * scores.pixels) / n


def _log_loss_interval(scores: PixelLosses, means: FloatArray, seed: int) -> Interval:
    return percentile(log_loss(scores)[0], means[:, 0] / means[:, 1])


def _ece_interval(scores: PixelLosses, means: FloatArray, seed: int) -> Interval:
    given = columns(scores)
    return absolute_sum(given[:, 2:] / given[:, 1].mean(), means[:, 2:] / means[:, 1:2])


METRICS = (
    Metric(name="scaled_pixel_log_loss", targets=("mask",), reads="scaled", of_all=log_loss, columns=columns,
           interval=_log_loss_interval, better="lower", unit="nats"),
    Metric(name="scaled_pixel_ece", targets=("mask",), reads="scaled", of_all=ece, columns=columns,
           interval=_ece_interval, better="lower", unit="%"),
)  # fmt: skip
