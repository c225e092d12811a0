"""Masks and maps as heads learn from them: whole numbers (N, H, W), some of which are no class; numbers, some NaN."""

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


def check_maps(y: ArrayLike, n_images: int, what: str = "y") -> Any:
    """Maps of numbers as they are where they are read lazily, else as an array.

    Raises:
        InputError: They are no maps (N, H, W) of floats, or those of other images.
    """
    maps: Any = y if hasattr(y, "__getitem__") and hasattr(y, "dtype") else np.asarray(y)
    if len(maps.shape) != 3 or np.dtype(maps.dtype).kind != "f" or 0 in maps.shape:
        raise InputError(
            f"{what} has shape {tuple(maps.shape)} and dtype {maps.dtype}, expected maps (N, H, W) of floats: give the "
            "number of each pixel, NaN where there is none"
        )
    if len(maps) != n_images:
        raise InputError(f"X has {n_images} images and {what} {len(maps)} maps: give one map per image")
    return maps


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
    n, n_places = len(masks), grid[0] * grid[1]
    place = np.arange(n)[:, None, None] * n_places + _place_of(masks.shape[1:], grid)
    codes = np.searchsorted(classes, masks).clip(max=len(classes) - 1)
    known = is_labelled(masks) & (classes[codes] == masks)
    counts = np.bincount((place * len(classes) + codes)[known], minlength=n * n_places * len(classes))
    per_place = np.bincount(place.ravel(), minlength=n * n_places)
    shares = counts.reshape(n, n_places, -1) / np.maximum(per_place.reshape(n, n_places, 1), 1)
    return shares.astype(np.float32)


def place_means(maps: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float64]:
    """(n, h w) mean of the labelled pixels of each place of a grid; NaN where none is labelled.

    Args:
        maps: (n, H, W), NaN at pixels without a label.
        grid: (h, w).
    """
    n, n_places = len(maps), grid[0] * grid[1]
    place = np.arange(n)[:, None, None] * n_places + _place_of(maps.shape[1:], grid)
    known = np.isfinite(maps)
    counts = np.bincount(place[known], minlength=n * n_places)
    sums = np.bincount(place[known], weights=maps[known], minlength=n * n_places)
    means = np.divide(sums, counts, out=np.full(n * n_places, np.nan), where=counts > 0)
    return means.reshape(n, n_places)


def drawn_pixels(
    masks: NDArray[Any], grid: tuple[int, int], random: np.random.Generator
) -> tuple[IntArray, IntArray, NDArray[np.float32]]:
    """Of every place of a grid that has labelled pixels one of these, drawn.

    Args:
        masks: (n, H, W).
        grid: (h, w).
        random: Draws.

    Returns:
        (m,) the places among n h w, ascending; (m,) the classes of the pixels; (m, 2) where their centres lie, down and
        to the right, in places.
    """
    n, height, width = masks.shape
    place = _place_of((height, width), grid).ravel()
    order = np.argsort(place, kind="stable")
    ends = np.cumsum(np.bincount(place, minlength=grid[0] * grid[1]))
    in_order = masks.reshape(n, -1)[:, order]
    seen = np.zeros((n, len(order) + 1), np.int64)
    np.cumsum(is_labelled(in_order), axis=1, out=seen[:, 1:])
    before, until = seen[:, np.concatenate([[0], ends[:-1]])], seen[:, ends]
    image, found = np.nonzero(until > before)
    first, many = before[image, found], (until - before)[image, found]
    wanted = first + 1 + np.minimum((random.random(len(many)) * many).astype(np.int64), many - 1)
    steps = np.arange(n)[:, None] * (len(order) + 1)  # rising from one image to the next
    at = np.searchsorted((seen + steps).ravel(), wanted + steps[image, 0]) - steps[image, 0] - 1
    pixel = order[at]
    y, x = ((pixel // width + 0.5) * (grid[0] / height), (pixel % width + 0.5) * (grid[1] / width))
    codes = in_order[image, at].astype(np.int64)
    return image * (grid[0] * grid[1]) + found, codes, np.stack([y, x], axis=1).astype(np.float32)


def _place_of(size: tuple[int, ...], grid: tuple[int, int]) -> IntArray:
    """(H, W) the place of a grid in which the centre of each pixel lies."""
    rows, columns = (
        ((2 * np.arange(side) + 1) * n_places) // (2 * side) for side, n_places in zip(size, grid, strict=True)
    )
    return rows[:, None] * grid[1] + columns


def pixel_counts(masks: Any) -> tuple[IntArray, IntArray]:
    """The classes that occur in masks, ascending, and the pixels of each."""
    total: dict[int, int] = {}
    for start in range(0, len(masks), 64):
        some = np.asarray(masks[start : start + 64])
        for code, count in zip(*_counts(some[is_labelled(some)]), strict=True):
            total[int(code)] = total.get(int(code), 0) + int(count)
    classes = np.array(sorted(total), dtype=np.int64)
    return classes, np.array([total[int(k)] for k in classes], dtype=np.int64)


def _counts(codes: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """The codes that occur, and how often each does."""
    if codes.dtype.itemsize > 2 or codes.dtype.kind != "u":
        return np.unique(codes, return_counts=True)
    counts = np.bincount(codes)  # many times faster than sorting
    return np.flatnonzero(counts), counts[counts > 0]
