"""Scenes of a few shapes whose masks are exact: colours say nothing of the class, form does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.targets.mask import Mask
from probe.datasets.shared.mask_rows import ArrayMasks, MaskPartition
from probe.datasets.shared.partitions import ArrayPartition, make_dataset

Plane = NDArray[np.float64]
CLASSES = ("background", "disc", "square", "triangle", "ring", "dot")
CHANCES = (0.3, 0.3, 0.24, 0.12, 0.04)
"""Of each class but the background, for every object; the dot, with its fixed radius, has about a pixel in 1,000."""
RADII = (4.5, 8.0)
DOT_RADIUS = 2.2
HOLE = 0.5
NOISE = 0.06
LEAST_SIZE = 16


def load(n_train: int = 1500, n_test: int = 500, size: int = 32, seed: int = 0) -> Dataset:
    """Draws scenes of one to three objects before a background of one colour, a slow wave and noise.

    Classes are background, disc, square, triangle, ring and the rare dot; later objects hide earlier ones. Every scene
    has a draw of its own: more rows leave the others as they are.

    Args:
        n_train: Scenes to learn from.
        n_test: Scenes to test on.
        size: Height and width in pixels; lengths in a scene grow with it.
        seed: Of the scenes; it belongs to the dataset, not to the run.
    """
    if size < LEAST_SIZE:
        raise InputError(f"size is {size}, expected {LEAST_SIZE} pixels or more: set dataset.size=32, say")
    if min(n_train, n_test) < 1:
        raise InputError(f"n_train is {n_train} and n_test {n_test}, expected a scene or more of both: raise them")
    target, partitions = Mask(background=0), {}
    for number, (part, n) in enumerate((("train", n_train), ("test", n_test))):
        scenes = [scene(size, np.random.default_rng([seed, number, row])) for row in range(n)]
        images, masks = (np.stack(values) for values in zip(*scenes, strict=True))
        codes = ArrayMasks(masks)
        ids = [str(row) for row in range(n)]
        rows = ArrayPartition(images, codes.counts(len(CLASSES)), ids, target=target)
        partitions[part] = MaskPartition(rows, codes, codes.fingerprint)
    return make_dataset("shapes", CLASSES, partitions, target=target, rows="images")


def scene(size: int, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image (size, size, 3) and its mask (size, size), codes as in `CLASSES`."""
    scale = size / 32
    y, x = np.mgrid[:size, :size] + 0.5
    pixels = np.tile(random.random(3), (size, size, 1))
    pixels += 0.1 * _wave(x / size, y / size, random)[..., None]
    mask = np.zeros((size, size), dtype=np.uint8)
    for _ in range(random.integers(1, 4)):
        code = int(random.choice(len(CHANCES), p=CHANCES)) + 1
        radius = DOT_RADIUS * scale if CLASSES[code] == "dot" else random.uniform(*RADII) * scale
        left, top = random.uniform(0.1 * size, 0.9 * size, 2)
        inside = SHAPES[CLASSES[code]]((x - left) / radius, (y - top) / radius, random.uniform(0, 2 * np.pi))
        mask[inside] = code
        pixels[inside] = random.random(3)
    pixels += NOISE * random.standard_normal(pixels.shape)
    return (255 * pixels.clip(0, 1)).round().astype(np.uint8), mask


def _wave(x: Plane, y: Plane, random: np.random.Generator) -> Plane:
    frequency, phase = random.uniform(-1.5, 1.5, 2), random.uniform(0, 2 * np.pi)
    return np.sin(2 * np.pi * (frequency[0] * x + frequency[1] * y) + phase)


def _disc(x: Plane, y: Plane, angle: float) -> NDArray[np.bool_]:
    return x**2 + y**2 <= 1


def _ring(x: Plane, y: Plane, angle: float) -> NDArray[np.bool_]:
    distance = x**2 + y**2
    return (distance <= 1) & (distance >= HOLE**2)


def _square(x: Plane, y: Plane, angle: float) -> NDArray[np.bool_]:
    cosine, sine = np.cos(angle), np.sin(angle)
    found: NDArray[np.bool_] = np.maximum(np.abs(cosine * x + sine * y), np.abs(cosine * y - sine * x)) <= 0.9
    return found


def _triangle(x: Plane, y: Plane, angle: float) -> NDArray[np.bool_]:
    sides = angle + 2 * np.pi / 3 * np.arange(3)
    return np.all([np.cos(side) * x + np.sin(side) * y <= 0.58 for side in sides], axis=0)


SHAPES: dict[str, Callable[[Plane, Plane, float], NDArray[np.bool_]]] = {
    "disc": _disc, "square": _square, "triangle": _triangle, "ring": _ring, "dot": _disc,
}  # fmt: skip
