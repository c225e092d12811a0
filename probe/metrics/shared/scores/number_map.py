"""Scores of images with a number per pixel: of each image a few means over its labelled pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.targets.number import Numbers
from probe.core.targets.number_map import NumberMap, labels_of

MEANS = (
    "squared", "aligned_squared", "relative", "log", "log_squared", "log10", "delta_1", "delta_2", "delta_3",
    "aligned_relative", "aligned_delta_1",
)  # fmt: skip
"""What is averaged over the labelled pixels of an image, with d true, p predicted and g = ln p - ln d: (p - d)^2, the
same aligned, |p - d| / d, g, g^2, |log10 p - log10 d|, whether max(p / d, d / p) is below 1.25, 1.25^2 and 1.25^3, and
two of these aligned. All but the first two are NaN where numbers need not be above 0."""
N_ANY = 2
"""Of them, those of numbers of any sign."""
RATIO = 1.25


@dataclass(frozen=True)
class ImageErrors:
    """What metrics need to know of one image.

    Attributes:
        predicted: Mean of what was predicted for its labelled pixels.
        means: Those of `MEANS`.
        true, pixels: Mean and count of its labelled pixels.
    """

    predicted: float
    means: tuple[float, ...]
    true: float
    pixels: int

    @classmethod
    def of(cls, predicted: NDArray[Any], numbers: NDArray[Any], target: NumberMap) -> ImageErrors:
        """Compares the prediction for an image, clipped to the range of the target, with its map.

        Args:
            predicted: (H, W) number of each pixel, at the size of the map.
            numbers: (H, W), NaN where a pixel has no label and counts nowhere; one pixel or more has.
            target: Says the range, and whether numbers are above 0, so that they can be divided.

        Raises:
            InputError: Prediction and map differ in size, or a prediction is not finite.
        """
        if predicted.shape != numbers.shape or numbers.ndim != 2:
            raise InputError(
                f"a prediction has shape {predicted.shape} and its map {numbers.shape}, expected (H, W) of both: "
                "predict at the size of the map"
            )
        known = np.isfinite(numbers)
        said, d = predicted[known].astype(np.float64), numbers[known].astype(np.float64)
        if not np.isfinite(said).all():
            raise InputError(
                f"{int((~np.isfinite(said)).sum())} of {len(said)} predicted numbers are not finite, expected "
                "all to be: the head diverged, or its features are not finite"
            )
        p, q = target.clipped(said), target.clipped(aligned(said, d))
        means = [np.mean((p - d) ** 2), np.mean((q - d) ** 2), *([np.nan] * (len(MEANS) - N_ANY))]
        if target.positive:
            g, ratio = np.log(p) - np.log(d), np.maximum(p / d, d / p)
            below = [np.mean(ratio < RATIO**power) for power in (1, 2, 3)]
            plain = [np.mean(np.abs(p - d) / d), g.mean(), np.mean(g**2), np.abs(g).mean() / np.log(10), *below]
            means[N_ANY:] = [*plain, np.mean(np.abs(q - d) / d), np.mean(np.maximum(q / d, d / q) < RATIO)]
        return cls(float(p.mean()), tuple(float(value) for value in means), *labels_of(numbers))


def aligned(predicted: Numbers, true: Numbers) -> Numbers:
    """s p + t with the scale s and the shift t of the least squares to the true numbers, (n,) of one image."""
    centred = predicted - predicted.mean()
    spread = float(centred @ centred)
    # A prediction that is the same everywhere but for the rounding of float32 says nothing that could be scaled.
    least = len(predicted) * (float(np.abs(predicted).mean()) * 1e-6) ** 2
    scale = float(centred @ (true - true.mean())) / spread if spread > least else 0.0
    return true.mean() + scale * centred


@dataclass(frozen=True)
class NumberMapScores:
    """Of N images with a number per pixel; rows are images.

    Attributes:
        labels: (N, 2) mean over the labelled pixels, and how many these are.
        predicted: (N, 2) the same of what was predicted for them.
        errors: (N, 11) `MEANS` over the labelled pixels.
        groups: (N,) numbers of the groups of the images, such as films; None where each is its own.
    """

    target: ClassVar[str] = "number_map"
    logits: ClassVar[None] = None

    labels: Numbers
    predicted: Numbers
    errors: Numbers
    groups: IntArray | None = None

    def mean(self, name: str) -> Numbers:
        """(N,) one of `MEANS`."""
        found: Numbers = self.errors[:, MEANS.index(name)]
        return found

    @property
    def positive(self) -> bool:
        """Whether numbers could be divided."""
        return bool(np.isfinite(self.errors).all())

    def in_groups(self, groups: IntArray | None) -> NumberMapScores:
        """The same of images that belong to groups."""
        return replace(self, groups=groups)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them: all that metrics look at, without any pixel."""
        return {"label": self.labels, "predicted": self.predicted, "errors": self.errors}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> NumberMapScores:
        """The scores again."""
        return cls(arrays["label"], arrays["predicted"], arrays["errors"])


def read(outputs: Sequence[ImageErrors], labels: Numbers) -> NumberMapScores:
    """Lays the errors of images beside what their partition says of them.

    Args:
        outputs: Of each image.
        labels: (N, 2) mean and count of their labelled pixels.
    """
    if len(outputs) != len(labels) or not len(labels) or labels.shape[1:] != (2,):
        raise InputError(
            f"there are errors of {len(outputs)} images and labels of shape {labels.shape}, expected errors, mean and "
            "labelled pixels of every image, at least 1: choose a protocol that leaves test rows"
        )
    found = np.array([[one.true, one.pixels] for one in outputs])
    if (wrong := ~np.isclose(found, labels, rtol=1e-6, atol=0).all(axis=1)).any():
        row = int(wrong.argmax())
        raise InputError(
            f"the errors of image {row} are of {int(found[row, 1])} pixels with the mean {found[row, 0]:.6g} and its "
            f"map has {int(labels[row, 1])} with {labels[row, 0]:.6g}, expected the same: compare each prediction with "
            "the map of its own image"
        )
    predicted = np.array([[one.predicted, one.pixels] for one in outputs])
    return NumberMapScores(labels, predicted, np.array([one.means for one in outputs]))
