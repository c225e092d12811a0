"""Scenes of balls and boxes at known depths: near ones are large, sharp in colour and hide far ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.targets.number_map import NumberMap
from probe.datasets.shared.mask_rows import ArrayMaps, NumberMapPartition
from probe.datasets.shared.partitions import ArrayPartition, make_dataset

LEAST, MOST = 1.0, 10.0
"""Range of the depths, in metres."""
FOCAL = 1.0
"""Focal length, in widths of the image: what is as wide as it is far fills the image."""
RADII = (0.35, 0.8)
"""Of balls, and half the width of boxes, in metres."""
NEAR = 1.5
"""Of the middle of an object, the least depth."""
HAZE = 5.0
"""Metres in which haze leaves 1 / e of a colour."""
FOG = 0.75
NOISE = 0.03
HOLES = 0.02
"""Share of the pixels of which the sensor says nothing."""
LEAST_SIZE = 16


def load(n_train: int = 1500, n_test: int = 500, size: int = 32, seed: int = 0) -> Dataset:
    """Draws scenes of two to four objects on a floor, before a wall, seen by a pinhole camera; depths are exact.

    Colours are random and say nothing of depth. What says it: the size of an object, what hides what, the haze that
    takes the contrast of far things, and the floor. A pixel in 50 has no label, as with real sensors. Every scene has a
    draw of its own: more rows leave the others as they are.

    Args:
        n_train: Scenes to learn from.
        n_test: Scenes to test on.
        size: Height and width in pixels.
        seed: Of the scenes; it belongs to the dataset, not to the run.
    """
    if size < LEAST_SIZE:
        raise InputError(f"size is {size}, expected {LEAST_SIZE} pixels or more: set dataset.size=32, say")
    if min(n_train, n_test) < 1:
        raise InputError(f"n_train is {n_train} and n_test {n_test}, expected a scene or more of both: raise them")
    target, partitions = NumberMap("m", LEAST, MOST), {}
    for number, (part, n) in enumerate((("train", n_train), ("test", n_test))):
        scenes = [scene(size, np.random.default_rng([seed, number, row])) for row in range(n)]
        images, depths = (np.stack(values) for values in zip(*scenes, strict=True))
        maps, ids = ArrayMaps(depths), [str(row) for row in range(n)]
        rows = ArrayPartition(images, maps.labels(), ids, target=target)
        partitions[part] = NumberMapPartition(rows, maps, maps.fingerprint)
    return make_dataset("depth_scenes", ("depth",), partitions, target=target, rows="images")


def scene(size: int, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """An image (size, size, 3) and its depths (size, size) in metres along the axis of the camera, NaN in holes."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5  # directions, in focal lengths
    depth = np.full((size, size), random.uniform(7.0, MOST))
    colour = np.tile(random.random(3), (size, size, 1))
    floor = np.divide(random.uniform(0.9, 1.5) * FOCAL, y, out=np.full_like(y, np.inf), where=y > 0)
    _put(depth, colour, floor, random.random(3))
    for _ in range(random.integers(2, 5)):
        z, radius, is_ball = random.uniform(NEAR, 0.9 * depth.max()), random.uniform(*RADII), random.random() < 0.5
        across, down = (x - random.uniform(-0.4, 0.4)) * z / FOCAL, (y - random.uniform(-0.3, 0.3)) * z / FOCAL
        if is_ball:
            height = radius**2 - across**2 - down**2
            surface = np.where(height >= 0, z - np.sqrt(np.maximum(height, 0)), np.inf)
        else:
            surface = np.where(np.maximum(np.abs(across), np.abs(down)) <= radius, z, np.inf)
        _put(depth, colour, surface, random.random(3))
    depth = depth.clip(LEAST, MOST)
    clear = np.exp(-depth / HAZE)[..., None]
    pixels = clear * colour + (1 - clear) * FOG + NOISE * random.standard_normal(colour.shape)
    depth[random.random(depth.shape) < HOLES] = np.nan
    return (255 * pixels.clip(0, 1)).round().astype(np.uint8), depth.astype(np.float32)


def _put(depth: NDArray[np.float64], colour: NDArray[np.float64], surface: NDArray[np.float64], own: Any) -> None:
    """Paints a surface where it is nearer than what is there."""
    nearer = surface < depth
    depth[nearer] = surface[nearer]
    colour[nearer] = own
