"""How well images and their captions find each other: Flickr30k, COCO.

Directions are named by what is looked for, as in CLIP_benchmark and the literature: text retrieval is from an image to
texts, image retrieval from a text to images. An image counts as right if any of its captions is among the first k; a
caption if its own image is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.metrics.shared.intervals import Interval, between
from probe.metrics.shared.metric import Metric, Statistic
from probe.metrics.shared.scores.captions import AT, CaptionScores


def text_recall(scores: CaptionScores, k: int) -> Statistic:
    """Share of the images with captions of which one is among the first k texts."""
    captioned = scores.labels > 0
    return _share(captioned & (scores.text_rank < k), captioned)


def image_recall(scores: CaptionScores, k: int) -> Statistic:
    """Share of the captions whose image is among the first k; those of an image come and go together."""
    return _share(scores.image_hits[:, AT.index(k)], scores.labels)


def mean_recall(scores: CaptionScores) -> Statistic:
    """Mean of the six recalls, the rsum of the literature over 6."""
    values, slopes = zip(*(recall(scores, k) for recall in (text_recall, image_recall) for k in AT), strict=True)
    return float(np.mean(values)), np.mean(slopes, axis=0)


def _share(hits: NDArray[np.generic], weights: NDArray[np.generic]) -> Statistic:
    """Sum of hits over sum of weights, (N,) each, and its derivative by the weight of each image."""
    right, total = hits.astype(np.float64), weights.astype(np.float64)
    share = float(right.sum() / total.sum())
    return share, (right - share * total) / total.sum()


def over_images(
    scores: CaptionScores,
    means: object,
    seed: int,
    *,
    statistic: Callable[[CaptionScores], Statistic],
    by_caption: bool,
) -> Interval:
    """For other images: their captions are one unit, an image without any counts for none.

    A mean with the weights w is one of (sum w)^2 / sum w^2 images (Kish, "Survey Sampling", 1965). Where these are the
    numbers of captions, no more images than that have shown how much recalls vary.

    Args:
        scores: Of the images.
        means, seed: Not used: nothing is drawn.
        statistic: The recall, and its derivative by the weight of each image.
        by_caption: Whether images weigh in it as much as they have captions, else all with captions alike.
    """
    weights = (scores.labels if by_caption else scores.labels > 0).astype(np.float64)
    value, slopes = statistic(scores)
    n = float(weights.sum() ** 2 / (weights**2).sum())
    return between(value, slopes, n, n if by_caption else np.inf)


def _recall(name: str, statistic: Callable[[CaptionScores], Statistic], needs: str, **more: Any) -> Metric:
    return Metric(
        name=name, targets=("captions",), reads="captions", of_all=statistic, needs=("label", *needs.split()), **more,
        interval=partial(over_images, statistic=statistic, by_caption="image_hits" in needs), proportion=True, unit="%",
    )  # fmt: skip


METRICS = (
    *(_recall(f"text_retrieval_recall_at_{k}", partial(text_recall, k=k), "text_rank") for k in AT),
    *(_recall(f"image_retrieval_recall_at_{k}", partial(image_recall, k=k), "image_hits") for k in AT),
    _recall("mean_recall", mean_recall, "text_rank image_hits", shown=True),
)
