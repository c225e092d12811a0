"""A dataset of your own: drawn shapes at random places, in groups of four that share a colour.

In this folder:

    probe --config-dir conf dataset=drawings head=ncm
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from probe.core.base import Dataset
from probe.datasets.shared.partitions import ArrayPartition

NAMES = ("disc", "square", "triangle", "cross")
SIDE = 32


def load(n_train: int = 200, n_test: int = 200, seed: int = 0) -> Dataset:
    """Draws RGB images of 32 x 32.

    Args:
        n_train: Rows, classes in turn.
        n_test: Rows, classes in turn.
        seed: Of the draw; it belongs to the dataset, not to the run.
    """
    random = np.random.default_rng(seed)
    partitions = {name: partition(name, n, random) for name, n in (("train", n_train), ("test", n_test))}
    return Dataset("drawings", NAMES, partitions)


def partition(name: str, n: int, random: np.random.Generator) -> ArrayPartition:
    """Some rows, with the group of each."""
    labels, groups = np.arange(n) % len(NAMES), np.arange(n) // len(NAMES)
    colours = random.integers(80, 256, size=(n, 3))
    images = np.stack(
        [drawn(NAMES[k], tuple(map(int, colours[g])), random) for k, g in zip(labels, groups, strict=True)]
    )
    made = ArrayPartition(images, labels, [f"{name}/{i}" for i in range(n)])
    made.groups = groups if name == "train" else groups + n  # rows of one colour train, validate or test together
    return made


def drawn(shape: str, colour: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """One image as uint8 (32, 32, 3)."""
    size = int(random.integers(10, 20))
    x, y = (int(v) for v in random.integers(1, SIDE - size - 1, size=2))
    image = Image.new("RGB", (SIDE, SIDE))
    draw, box = ImageDraw.Draw(image), (x, y, x + size, y + size)
    if shape == "disc":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    elif shape == "triangle":
        draw.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=colour)
    else:
        draw.line([(x, y), (x + size, y + size)], fill=colour, width=3)
        draw.line([(x, y + size), (x + size, y)], fill=colour, width=3)
    noise = random.normal(0, 12, (SIDE, SIDE, 3))
    return (np.asarray(image) + noise).clip(0, 255).astype(np.uint8)
