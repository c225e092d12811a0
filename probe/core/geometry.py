"""What of an image a backbone's input shows: enough to carry a mask there, and logits of its grid back to pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]
"""(width, height), as Pillow has it."""


@dataclass(frozen=True)
class Geometry:
    """The rectangle of an upright image that an input shows.

    Attributes:
        box: (left, top, right, bottom) in pixels of the image, whose first pixel reaches from 0 to 1; beyond the image
            where the transform pads.
        flipped: Whether left and right are exchanged.
    """

    box: tuple[float, float, float, float]
    flipped: bool = False

    def then(self, inner: Geometry) -> Geometry:
        """What is shown in the end of a part that was cut out of an image, in pixels of the image.

        Args:
            inner: What is shown of the part, whose size is that of this box.
        """
        left, top, right, _ = self.box
        a, b, c, d = inner.box
        across = (right - c, right - a) if self.flipped else (left + a, left + c)
        return Geometry((across[0], top + b, across[1], top + d), self.flipped != inner.flipped)

    def seen(self, mask: NDArray[Any], height: int, width: int, outside: float) -> NDArray[Any]:
        """A mask (H, W) as (height, width): the value at the centre of each place, `outside` where no pixel is."""
        rows, columns = (self._centres(n, axis) for axis, n in ((1, height), (0, width)))
        inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
        found = mask[np.clip(rows, 0, mask.shape[0] - 1)[:, None], np.clip(columns, 0, mask.shape[1] - 1)]
        return found if inside.all() else np.where(inside, found, np.asarray(outside, mask.dtype))

    def _centres(self, n: int, axis: int) -> NDArray[np.int64]:
        """(n,) the pixel in which the centre of each place lies."""
        start, stop = self.box[axis], self.box[axis + 2]
        at = start + (np.arange(n) + 0.5) * ((stop - start) / n)
        found = np.floor(at).astype(np.int64)
        return found[::-1] if self.flipped and axis == 0 else found

    def spread(self, values: Tensor, height: int, width: int, band: slice = slice(None)) -> Tensor:
        """Values (K, h, w) of a grid over the input as (K, height, width), one for each pixel of the image.

        With `band` only the rows of the image from its start to its stop.

        Bilinear between the centres of the grid's places, as `torch.nn.functional.interpolate` has it without aligned
        corners; beyond the outermost centres, and so at pixels that the input does not show, the nearest place.
        """
        for axis, n, kept in ((1, height, band), (0, width, slice(None))):
            before, way = self._places(n, values.shape[2 - axis], axis)
            values = _lerp(values, before[kept], way[kept], 2 - axis)
        return values

    def _places(self, n: int, n_places: int, axis: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """For each of n pixels the place of the grid before it, and how far it is on the way to the next one."""
        start, stop = self.box[axis], self.box[axis + 2]
        at = (np.arange(n) + 0.5 - start) * (n_places / (stop - start))
        at = n_places - at if self.flipped and axis == 0 else at
        at = np.clip(at - 0.5, 0, n_places - 1)
        before = np.minimum(at.astype(np.int64), max(n_places - 2, 0))
        return before, (at - before).astype(np.float32)

    def shows(self, height: int, width: int) -> NDArray[np.bool_]:
        """(height, width) marks the pixels of an image whose centre is shown."""
        left, top, right, bottom = self.box
        rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
        return ((rows > top) & (rows < bottom))[:, None] & ((columns > left) & (columns < right))


def _lerp(values: Tensor, before: NDArray[np.int64], way: NDArray[np.float32], axis: int) -> Tensor:
    import torch

    n_places = values.shape[axis]
    shape = [1, 1, 1]
    shape[axis] = len(way)
    first = values.index_select(axis, torch.from_numpy(before).to(values.device))
    if n_places == 1:
        return first
    second = values.index_select(axis, torch.from_numpy(before + 1).to(values.device))
    return first.lerp_(second, torch.from_numpy(way).to(values).view(shape))


def whole(size: Size) -> Geometry:
    """The whole image, whatever its proportions."""
    return Geometry((0.0, 0.0, float(size[0]), float(size[1])))


def centred(size: Size, ratio: float = 1.0) -> Geometry:
    """The largest centred rectangle whose width is `ratio` times its height, as `PIL.ImageOps.fit` cuts it."""
    width, height = size
    wide, high = (height * ratio, float(height)) if width >= height * ratio else (float(width), width / ratio)
    left, top = (width - wide) / 2, (height - high) / 2
    return Geometry((left, top, left + wide, top + high))


def window(size: Size, scaled: Size, shown: Size, middle: Callable[[float], int] = round) -> Geometry:
    """What a centred window of a scaled image shows.

    Args:
        size: Of the image.
        scaled: Of the image once it is scaled.
        shown: Of the window; the image is padded where it is smaller.
        middle: Makes a whole number of half of what is left beside the window.
    """
    edges = []
    for full, n, side in zip(size, scaled, shown, strict=True):
        start = middle((n - side) / 2) if side <= n else -((side - n) // 2)
        edges.append((start * full / n, (start + side) * full / n))
    (left, right), (top, bottom) = edges
    return Geometry((left, top, right, bottom))


def shorter_side(size: Size, target: int) -> Size:
    """The size of an image whose shorter side is scaled to `target`, as torchvision's `Resize` rounds it."""
    short, long = min(size), max(size)
    scaled = int(target * long / short)
    return (target, scaled) if size[0] <= size[1] else (scaled, target)


def kept_ratio(size: Size, target: Size, *, longest: bool) -> Size:
    """The size of an image that is scaled into `target` (`longest`), or over it, as timm's `ResizeKeepRatio` rounds."""
    ratios = [side / wanted for side, wanted in zip(size, target, strict=True)]
    ratio = max(ratios) if longest else min(ratios)
    return round(size[0] / ratio), round(size[1] / ratio)


@runtime_checkable
class Located(Protocol):
    """A backbone of images that can say where its input lies in an image, as its preprocessing has it.

    Attributes:
        image_size: (height, width) of the input.
    """

    image_size: tuple[int, int]

    def geometry(self, size: Size) -> Geometry:
        """What is shown of an upright image of (width, height).

        Raises:
            DoesNotFit: Its transform does not say so.
        """
        ...
