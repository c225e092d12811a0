"""Masks as heads learn from them: whole numbers (N, H, W), some of which are no class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError

SHOWN_BYTES = 2**30
"""Masks up to this size are held in memory."""


def check_masks(y: ArrayLike, n_images: int, what: str = "y") -> Any:
    """Masks as they are where they are read lazily, else as an array.

    Raises:
        InputError: They are no masks (N, H, W) of whole numbers, or those of other images.
    """
    masks: Any = y if hasattr(y, "__getitem__") and hasattr(y, "dtype") else np.asarray(y)
    if len(masks.shape) != 3 or np.dtype(masks.dtype).kind not in "iu" or 0 in masks.shape:
        raise InputError(
            f"{what} has shape {tuple(masks.shape)} and dtype {masks.dtype}, expected masks (N, H, W) of whole "
            "numbers: give the class of each pixel"
        )
    if len(masks) != n_images:
        raise InputError(f"X has {n_images} images and {what} {len(masks)} masks: give one mask per image")
    return masks


def is_labelled(masks: NDArray[Any]) -> NDArray[np.bool_]:
    """Marks pixels that have a class: not the largest number of an unsigned dtype (255), no negative one."""
    found: NDArray[np.bool_] = masks != np.iinfo(masks.dtype).max if masks.dtype.kind == "u" else masks >= 0
    return found


def class_shares(masks: NDArray[Any], grid: tuple[int, int], classes: IntArray) -> NDArray[np.float32]:
    """(n, h w, K) share of the pixels of each place of a grid that have each class; 0 where none is labelled.

    A pixel belongs to the place in which its centre lies.

    Args:
        masks: (n, H, W).
        grid: (h, w).
        classes: (K,) ascending; pixels of others count as unlabelled.
    """
    n, height, width = masks.shape
    rows, columns = (
        ((2 * np.arange(side) + 1) * n_places) // (2 * side)
        for side, n_places in zip((height, width), grid, strict=True)
    )
    n_places = grid[0] * grid[1]
    place = (np.arange(n)[:, None, None] * grid[0] + rows[:, None]) * grid[1] + columns
    codes = np.searchsorted(classes, masks).clip(max=len(classes) - 1)
    known = is_labelled(masks) & (classes[codes] == masks)
    counts = np.bincount((place * len(classes) + codes)[known], minlength=n * n_places * len(classes))
    per_place = np.bincount(place.ravel(), minlength=n * n_places)
    shares = counts.reshape(n, n_places, -1) / np.maximum(per_place.reshape(n, n_places, 1), 1)
    return shares.astype(np.float32)


def pixel_counts(masks: Any) -> tuple[IntArray, IntArray]:
    """The classes that occur in masks, ascending, and the pixels of each."""
    total: dict[int, int] = {}
    for start in range(0, len(masks), 64):
        some = np.asarray(masks[start : start + 64])
        for code, count in zip(*np.unique(some[is_labelled(some)], return_counts=True), strict=True):
            total[int(code)] = total.get(int(code), 0) + int(count)
    classes = np.array(sorted(total), dtype=np.int64)
    return classes, np.array([total[int(k)] for k in classes], dtype=np.int64)
