"""Scores of images with masks: of each image a sparse confusion of its pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.targets import Target
from probe.core.targets.mask import Mask
from probe.metrics.shared.scores import Frequencies

BOUNDARY = 0.01
"""Distance from a change of labels within which a pixel is one of the boundary, as a share of the image's diagonal."""


@dataclass(frozen=True)
class ImageTally:
    """What metrics need to know of one image: which classes its labelled pixels have, and which were predicted.

    Attributes:
        true: (C,) class of the pixels of each cell of the confusion that is not empty, in ascending order.
        predicted: (C,) class that was predicted for them.
        count: (C,) pixels.
        boundary: Labelled pixels near a change of labels that were predicted right, and all of them.
    """

    true: IntArray
    predicted: IntArray
    count: IntArray
    boundary: tuple[int, int]

    @classmethod
    def of(cls, predicted: NDArray[Any], mask: NDArray[Any], n_classes: int) -> ImageTally:
        """Compares the prediction for an image with its mask.

        Args:
            predicted: (H, W) class of each pixel, at the size of the mask.
            mask: (H, W) codes; pixels whose code is `n_classes` or more have no label and count nowhere.
            n_classes: K.

        Raises:
            InputError: Prediction and mask differ in size, or a prediction is no class.
        """
        if predicted.shape != mask.shape or mask.ndim != 2:
            raise InputError(
                f"a prediction has shape {predicted.shape} and its mask {mask.shape}, expected (H, W) of both: "
                "predict at the size of the mask"
            )
        labelled = mask < n_classes
        found, true = predicted[labelled].astype(np.int64), mask[labelled].astype(np.int64)
        if len(found) and (found.min() < 0 or found.max() >= n_classes):
            raise InputError(
                f"predicted classes run from {found.min()} to {found.max()}, expected 0 to {n_classes - 1}: predict "
                "classes of the dataset"
            )
        cells, count = np.unique(true * n_classes + found, return_counts=True)
        near = boundary(mask, n_classes)
        right = int((predicted[near] == mask[near]).sum())
        return cls(cells // n_classes, cells % n_classes, count.astype(np.int64), (right, int(near.sum())))


def boundary(mask: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    """(H, W) marks labelled pixels within d of one with another label, in either axis.

    d is 1 % of the diagonal, at least a pixel. Pixels without a label change nothing: beside them is no boundary.
    """
    width = 2 * max(1, round(BOUNDARY * float(np.hypot(*mask.shape)))) + 1
    codes = mask.astype(np.int32)
    labelled = codes < n_classes
    highest = maximum_filter(np.where(labelled, codes, -1), width)
    lowest = minimum_filter(np.where(labelled, codes, n_classes), width)
    found: NDArray[np.bool_] = labelled & (highest != lowest)
    return found


@dataclass(frozen=True)
class MaskScores:
    """Of N images with masks of K classes; rows are images.

    Attributes:
        labels: (N, K) labelled pixels of each class.
        confusion: (N, C, 3) cells of the confusion of each image: class, predicted class, pixels; 0 pixels fill up.
        boundary: (N, 2) pixels near a change of labels that were predicted right, and all of them.
        groups: (N,) numbers of the groups of the images, such as films; None where each is its own.
        background: The class that `f1_foreground` leaves out; None where there is none.
    """

    target: ClassVar[str] = "mask"
    logits: ClassVar[None] = None

    labels: IntArray
    confusion: NDArray[np.int32]
    boundary: IntArray
    groups: IntArray | None = None
    background: int | None = None

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.labels.shape[1])

    @cached_property
    def predicted(self) -> IntArray:
        """(N, K) labelled pixels that were predicted as each class."""
        return self._pixels(1, np.ones(self.confusion.shape[:2], dtype=bool))

    @cached_property
    def hits(self) -> IntArray:
        """(N, K) pixels of each class that were predicted right."""
        return self._pixels(0, self.confusion[..., 0] == self.confusion[..., 1])

    def _pixels(self, of: int, which: NDArray[np.bool_]) -> IntArray:
        row, cell = np.nonzero(which & (self.confusion[..., 2] > 0))
        found = np.zeros(self.labels.shape, dtype=np.int64)
        np.add.at(found, (row, self.confusion[row, cell, of]), self.confusion[row, cell, 2])
        return found

    def in_groups(self, groups: IntArray | None) -> MaskScores:
        """The same of images that belong to groups."""
        return replace(self, groups=groups)

    def of_target(self, target: Target) -> MaskScores:
        """The same with what the target says of its classes."""
        return replace(self, background=target.background if isinstance(target, Mask) else None)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them: all that metrics look at, without any pixel."""
        return {
            "label": self.labels,
            "predicted": self.predicted,
            "confusion": self.confusion,
            "boundary": self.boundary,
        }

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> MaskScores:
        """The scores again."""
        return cls(arrays["label"], arrays["confusion"], arrays["boundary"])


def beside(rows: MaskScores, learnt: IntArray) -> dict[str, Frequencies]:
    """With the training pixels of each class."""
    return {"frequency": Frequencies(rows, learnt.sum(axis=0))}


def read(outputs: Sequence[ImageTally], labels: IntArray) -> MaskScores:
    """Lays the tallies of images beside their labelled pixels.

    Args:
        outputs: A tally for each image.
        labels: (N, K) labelled pixels of each class.
    """
    if len(outputs) != len(labels) or not len(labels) or labels.ndim != 2:
        raise InputError(
            f"there are {len(outputs)} tallies and labels of shape {labels.shape}, expected a tally and the pixels of "
            "each class for every image, at least 1: choose a protocol that leaves test rows"
        )
    confusion = np.zeros((len(outputs), max(len(tally.count) for tally in outputs), 3), dtype=np.int32)
    for row, tally in enumerate(outputs):
        confusion[row, : len(tally.count)] = np.stack([tally.true, tally.predicted, tally.count], axis=1)
    scores = MaskScores(labels, confusion, np.array([tally.boundary for tally in outputs], dtype=np.int64))
    summed = scores._pixels(0, np.ones(confusion.shape[:2], dtype=bool))
    if (wrong := (summed != labels).any(axis=1)).any():
        row = int(wrong.argmax())
        raise InputError(
            f"the tally of image {row} has {summed[row].tolist()} pixels of the classes and its mask "
            f"{labels[row].tolist()}, expected the same: compare each prediction with the mask of its own image"
        )
    return scores
