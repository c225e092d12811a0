"""Scores of images with masks: of each image a sparse confusion of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from probe.core.base import IntArray
from probe.core.errors import InputError

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
