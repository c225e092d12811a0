"""What a run on maps of numbers says beside its metrics: how pixels were counted, and pictures of three images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.core.base import Backbone, Dataset, IntArray
from probe.core.images import to_rgb
from probe.core.targets.number_map import HasNumberMaps, NumberMap
from probe.experiment.pixels import best_median_worst, n_windows, scaled, write_sheet
from probe.metrics.depth import image_rmse
from probe.metrics.shared.scores.number_map import NumberMapScores

COLOURS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])
"""From the smallest number to the largest, evenly spaced on matplotlib's viridis; what has no label is black."""


def of_number_maps(scores: NumberMapScores, dataset: Dataset, backbone: Backbone, rows: IntArray) -> dict[str, Any]:
    """What the record says of the test images; runs that differ in `evaluation` share no column of a table.

    Args:
        scores: Of the test images.
        dataset: Of which they are.
        backbone: Which the head reads.
        rows: (N,) numbers of the test images in their partition.
    """
    assert isinstance(dataset.target, NumberMap)
    bounds = [None if end is None else float(end) for end in (dataset.target.least, dataset.target.most)]
    return {
        "evaluation": {"size": "of the maps", "range": bounds, "windows": n_windows(backbone)},
        "overlays": [{"which": which, "row": int(rows[place]), "place": place, "image_rmse": value}
                     for which, place, value in best_median_worst(image_rmse(scores), higher=False)],
    }  # fmt: skip


def write_pictures(
    folder: Path, told: Sequence[dict[str, Any]], tested: Dataset, partition: str, maps: Callable[[int], NDArray[Any]]
) -> None:
    """`overlays.png` in a run's folder: the images that the record names, each with its map and its prediction."""
    part, target, rows = tested.partitions[partition], tested.target, []
    assert isinstance(part, HasNumberMaps)
    assert isinstance(target, NumberMap)
    for one in told:
        image, true, found = to_rgb(part[one["row"]]), part.number_maps[one["row"]], target.clipped(maps(one["place"]))
        low, high = float(np.nanmin(true)), float(np.nanmax(true))
        pictures = [image, *(Image.fromarray(coloured(numbers, low, high)) for numbers in (true, found))]
        spread = f"{low:.3g} (violet) to {high:.3g} {target.unit}".strip()
        caption = f"{one['which']}: {part.ids[one['row']]}, RMSE {one['image_rmse']:.3g}, {spread} (yellow)"
        rows.append(([scaled(picture) for picture in pictures], caption))
    write_sheet(folder, rows, ("image", tested.class_names[0], "predicted"))


def coloured(numbers: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """(H, W, 3) colours of numbers (H, W); those beyond the ends as these."""
    spread = high - low or 1.0
    at = np.nan_to_num((numbers - low) / spread).clip(0, 1) * (len(COLOURS) - 1)
    channels = [np.interp(at, np.arange(len(COLOURS)), channel) for channel in COLOURS.T]
    found: NDArray[np.uint8] = np.stack(channels, axis=2).round().astype(np.uint8)
    found[~np.isfinite(numbers)] = 0
    return found
