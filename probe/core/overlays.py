"""Masks as people see them: colours of classes, laid over their image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from probe.core.escaping import one_line

OPACITY = 0.7
TURN, PALE, DARK = 0.29, 8, 4
"""Of the circle of hues between one class and the next, and after how many classes colours turn pale and dark: so that
any two of the first 24 differ by 50 of 255 in a channel, of the first eight by 100."""
SWATCH, LINE, MARGIN = 10, 14, 4
"""Pixels of a legend: a coloured square, a line, and what is around them."""


def colours(n_classes: int) -> NDArray[np.uint8]:
    """(K, 3) of the classes; those of the first are the same whatever K is."""
    shades = [(TURN * k % 1, 1 - 0.5 * (k // PALE % 2), 1 - 0.4 * (k // DARK % 2)) for k in range(n_classes)]
    return np.array([[round(255 * c) for c in colorsys.hsv_to_rgb(*shade)] for shade in shades], dtype=np.uint8)


def overlay(image: Image.Image, mask: NDArray[Any], n_classes: int, background: int | None = None) -> Image.Image:
    """The colours of the classes over an image of the mask's size; background and unlabelled pixels show the image."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    painted = mask < n_classes
    if background is not None:
        painted = painted & (mask != background)
    over = pixels.copy()
    over[painted] = (1 - OPACITY) * pixels[painted] + OPACITY * colours(n_classes)[mask[painted].astype(np.int64)]
    return Image.fromarray(over.round().astype(np.uint8))


def legend(class_names: Sequence[str], codes: Sequence[int], width: int, n_classes: int) -> Image.Image:
    """The colours of some classes with their names, in as many lines as they need."""
    blank = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    places, left, top = [], MARGIN, MARGIN
    for code in codes:
        name = one_line(class_names[code])
        room = SWATCH + 2 * MARGIN + int(blank.textlength(name)) + MARGIN
        if left > MARGIN and left + room > width:
            left, top = MARGIN, top + LINE
        places.append((left, top, code, name))
        left += room
    picture = Image.new("RGB", (width, top + LINE + MARGIN), "white")
    draw, palette = ImageDraw.Draw(picture), colours(n_classes)
    for left, top, code, name in places:
        draw.rectangle((left, top, left + SWATCH, top + SWATCH), fill=tuple(palette[code].tolist()), outline="black")
        draw.text((left + SWATCH + MARGIN, top), name, fill="black")
    return picture
