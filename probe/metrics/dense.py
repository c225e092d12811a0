"""How well the classes of pixels are found, over all labelled pixels of the test images.

Each metric is the mean over classes of a ratio of sums over images, so that it follows from the confusion of each
image. With t pixels of a class, p pixels predicted as it and h of both, summed over the images:

    IoU = h / (t + p - h)        F1 = 2 h / (t + p) = 2 IoU / (1 + IoU)        accuracy = h / t

Means are over the classes that the masks of the test images show, the same for every head: a class that is predicted
alone costs those whose pixels it takes. Pixels of an image are not independent, so images are resampled (or groups of
these), never pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.metrics.shared.intervals import FloatArray, Interval, between, percentile, resampled_means, sums_of_groups
from probe.metrics.shared.metric import Metric, Statistic
from probe.metrics.shared.scores import Frequencies
from probe.metrics.shared.scores.mask import MaskScores

BoolArray = NDArray[np.bool_]
HEAD, TAIL = 0.1, 0.01
"""Shares of the training pixels above and below which a class is one of the head and of the tail."""


class Sums(NamedTuple):
    """Pixels of each class (..., K), predicted as it, and right; near changes of labels right ones and all (..., 2)."""

    true: Any
    predicted: Any
    hits: Any
    boundary: Any


Ratio = Callable[[Sums], tuple[Any, Any]]
"""What is divided by what, (..., K) or (..., 1) each."""


def iou(sums: Sums) -> tuple[Any, Any]:
    """Intersection over union of each class."""
    return sums.hits, sums.true + sums.predicted - sums.hits


def f1(sums: Sums) -> tuple[Any, Any]:
    """F1, or Dice's coefficient, of each class."""
    return 2 * sums.hits, sums.true + sums.predicted


def accuracy(sums: Sums) -> tuple[Any, Any]:
    """Share of the pixels of each class that are right."""
    return sums.hits, sums.true


def pixel_accuracy(sums: Sums) -> tuple[Any, Any]:
    """Share of all pixels that are right."""
    return sums.hits.sum(axis=-1, keepdims=True), sums.true.sum(axis=-1, keepdims=True)


def boundary_accuracy(sums: Sums) -> tuple[Any, Any]:
    """Share of the pixels near a change of labels that are right."""
    return sums.boundary[..., :1], sums.boundary[..., 1:]


def of_images(scores: MaskScores) -> FloatArray:
    """(N, 3 K + 2) sums of each image, side by side."""
    return np.hstack([scores.labels, scores.predicted, scores.hits, scores.boundary]).astype(np.float64)


def columns(scores: MaskScores) -> FloatArray:
    """The same of what is resampled: of each image, or of each group of images."""
    found = of_images(scores)
    return sums_of_groups(found, scores.groups)


def split(values: FloatArray) -> Sums:
    """The sums that stand side by side."""
    n_classes = (values.shape[-1] - 2) // 3
    return Sums(*np.split(values, [n_classes, 2 * n_classes, 3 * n_classes], axis=-1))


def shown(scores: MaskScores) -> BoolArray:
    """(K,) marks the classes that the masks of the images show."""
    found: BoolArray = scores.labels.sum(axis=0) > 0
    return found


def foreground(scores: MaskScores) -> BoolArray:
    """(K,) the same without the background."""
    found = shown(scores)
    if scores.background is not None:
        found[scores.background] = False
    return found


def mean_ratio(sums: FloatArray, ratio: Ratio, classes: BoolArray | None) -> Statistic:
    """Mean over classes of a ratio of sums, and its derivative by the weight of each image or group.

    Args:
        sums: (N, 3 K + 2) of each image or group.
        ratio: Of which the mean is.
        classes: (K,) those to average over; None for a ratio of all pixels.
    """
    parts, bottoms = ratio(split(sums))
    top, bottom = parts.sum(axis=0), bottoms.sum(axis=0)
    found = bottom > 0 if classes is None else classes
    values = top[found] / bottom[found]
    slopes = (parts[:, found] - values * bottoms[:, found]) / bottom[found]
    return float(values.mean()), slopes.mean(axis=1)


def resampled_ratio(means: FloatArray, ratio: Ratio, classes: BoolArray | None) -> FloatArray:
    """The mean under resamples, (B,), of the means (B, 3 K + 2) of sums; classes that a resample lacks are left out."""
    tops, bottoms = (part if classes is None else part[:, classes] for part in ratio(split(means)))
    there = bottoms > 0
    # Resampled means have few digits: 1 may be a little more.
    values = np.divide(tops, bottoms, out=np.zeros_like(tops), where=there).clip(0, 1)
    found: FloatArray = values.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return found


def interval(scores: MaskScores, means: FloatArray, ratio: Ratio, classes: BoolArray | None = None) -> Interval:
    """The mean of a ratio with the outer ends of two intervals for new images.

    The percentiles of resampled images, and Wilson's form, which has a width where all images agree: with as many
    trials as a mean over classes has where each image that shows a class is one trial of it.
    """
    sums = columns(scores)
    value, slopes = mean_ratio(sums, ratio, classes)
    showing = (ratio(split(sums))[1] > 0).sum(axis=0)
    showing = showing[showing > 0] if classes is None else showing[classes]
    n_least = min(float(len(sums)), len(showing) ** 2 / (1 / showing).sum())
    wide = between(value, slopes, n_least, float(len(sums)))
    replicates = percentile(value, resampled_ratio(means, ratio, classes))
    return Interval(value, min(wide.low, replicates.low), max(wide.high, replicates.high))


def share_groups(scores: Frequencies) -> dict[str, BoolArray]:
    """(K,) masks of the shown classes with many, some and few training pixels, by the name of their metric.

    Of the head are classes with over 10 % of the labelled training pixels, of the tail those with less than 1 %. Groups
    without a class that the test masks show are left out; with one group alone there is nothing to tell apart.
    """
    shares = scores.train_counts / max(scores.train_counts.sum(), 1)
    head, tail = shares > HEAD, shares < TAIL
    groups = {"iou_head": head, "iou_mid": ~head & ~tail, "iou_tail": tail}
    found = {name: group & shown(scores.rows) for name, group in groups.items()}
    found = {name: group for name, group in found.items() if group.any()}
    return found if len(found) > 1 else {}


def _metric(name: str, ratio: Ratio, classes: Callable[[Any], BoolArray | None], **more: Any) -> Metric:
    """A mean of a ratio over some classes of the scores of the test images."""

    def measured(scores: MaskScores, means: FloatArray, seed: int) -> Interval:
        return interval(scores, means, ratio, classes(scores))

    def of_all(scores: MaskScores) -> Statistic:
        return mean_ratio(of_images(scores), ratio, classes(scores))

    return Metric(name=name, targets=("mask",), of_all=of_all, interval=measured, columns=columns, unit="%",
                  proportion=True, **more)  # fmt: skip


def _of_share(name: str) -> Metric:
    """Mean IoU of the classes of one group."""

    def measured(scores: Frequencies, means: FloatArray, seed: int) -> Interval:
        return interval(scores.rows, means, iou, share_groups(scores)[name])

    return Metric(
        name=name,
        targets=("mask",),
        reads="frequency",
        suits=lambda scores: name in share_groups(scores),
        of_all=lambda scores: mean_ratio(of_images(scores.rows), iou, share_groups(scores)[name]),
        interval=measured,
        columns=_columns_beside,
        unit="%",
        proportion=True,
    )


def _columns_beside(scores: Frequencies) -> FloatArray:
    return columns(scores.rows)


def by_class(scores: MaskScores, seed: int = 0) -> list[dict[str, Interval] | None]:
    """IoU, F1 and accuracy of each class with their intervals; None of a class that the masks do not show."""
    means, each = resampled_means(columns(scores), seed), np.eye(scores.n_classes, dtype=bool)
    ratios = {"iou": iou, "f1": f1, "accuracy": accuracy}
    return [
        {name: interval(scores, means, ratio, each[k]) for name, ratio in ratios.items()} if there else None
        for k, there in enumerate(shown(scores))
    ]


def _all(scores: Any) -> None:
    return None


KEPT = ("label", "confusion", "boundary")
METRICS = (
    _metric("miou", iou, shown, shown=True, needs=KEPT, tolerance=1e-6),
    _metric("pixel_accuracy", pixel_accuracy, _all, needs=KEPT, tolerance=1e-6),
    _metric("class_accuracy", accuracy, shown, needs=KEPT, tolerance=1e-6),
    _metric("f1", f1, shown, needs=KEPT, tolerance=1e-6),
    _metric("f1_foreground", f1, foreground,
            suits=lambda scores: scores.background is not None and bool(foreground(scores).any())),
    _metric("boundary_accuracy", boundary_accuracy, _all, needs=KEPT, tolerance=1e-6,
            suits=lambda scores: bool(scores.boundary[:, 1].any())),
    *map(_of_share, ("iou_head", "iou_mid", "iou_tail")),
)  # fmt: skip
