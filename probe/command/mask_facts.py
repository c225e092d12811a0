"""What `probe describe` says and shows of images with masks, or with a number per pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.backbones.shared.views import MultiView
from probe.core.base import Backbone, Dataset
from probe.core.errors import DoesNotFit
from probe.core.geometry import Located
from probe.core.overlays import legend, overlay
from probe.core.targets.mask import HasMasks
from probe.core.targets.number_map import HasNumberMaps
from probe.experiment.ceilings import ceiling, least_rmse
from probe.experiment.dense import geometries_of, no_label, pixels_of
from probe.experiment.number_maps import coloured
from probe.metrics.shared.metric import known

N_IMAGES = 500
PIXEL_BUDGET = 2**30
"""Classes times pixels that ceilings look at."""
N_GRIDS = 6
TOLD = {
    "miou": ("masks", "ceiling", "mIoU", "a perfect classifier of patches"),
    "image_rmse": ("maps", "floor", "RMSE", "the means of patches"),
}
"""By the metric: what pixels are labelled by, what its best value is called, the metric itself, and what reaches it."""
N_NAMED = 40
GAP = 2


def mask_facts(backbone: Backbone, dataset: Dataset, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Sizes of the masks or maps and, of every map of the backbone, what its grid allows; None where there are none.

    Args:
        backbone: What reads the images.
        dataset: With labels of pixels, or others.
        shapes: Of one row of each kind.
    """
    train = dataset.leading
    if not dataset.target.per_pixel:
        return None
    n_classes, labels = len(dataset.class_names), pixels_of(train)
    n = max(1, min(N_IMAGES, len(labels), PIXEL_BUDGET // (n_classes * labels[0].size)))
    rows = np.linspace(0, len(labels) - 1, n).astype(int)
    sizes = np.array([labels[int(row)].shape[::-1] for row in rows[: min(n, 50)]])
    n_views = backbone.n if isinstance(backbone, MultiView) else 1
    grids = {kind: shape[-2:] for kind, shape in shapes.items() if len(shape) - (n_views > 1) == 3}
    found, fault = {}, "" if grids else "it gives no map: choose a backbone that does, or tap a layer that is one"
    try:
        for kind, grid in list(grids.items())[:N_GRIDS] if isinstance(backbone, Located) else ():
            places = (int(grid[0]), int(grid[1]))
            if isinstance(train, HasNumberMaps):
                found[kind] = least_rmse(train, rows.tolist(), backbone, places)
            elif isinstance(train, HasMasks):
                found[kind] = ceiling(train, rows.tolist(), backbone, places, n_classes)
    except DoesNotFit as error:
        fault = str(error)
    return {
        "least": sizes.min(axis=0).tolist(), "most": sizes.max(axis=0).tolist(), "n": n, "ceilings": found,
        "grids": {kind: list(grid) for kind, grid in grids.items()}, "fault": fault,
        "metric": "image_rmse" if isinstance(train, HasNumberMaps) else "miou",
    }  # fmt: skip


def told(facts: Mapping[str, Any]) -> dict[str, str]:
    """The lines of `probe describe`."""
    least, most = (f"{width} x {height}" for width, height in (facts["least"], facts["most"]))
    sizes = f"{least} pixels" if least == most else f"{least} to {most} pixels"
    metric = known()[facts["metric"]]
    what, bound, name, says = TOLD[metric.name]
    if facts["fault"]:
        return {what: sizes, bound: f"not known: {facts['fault']}"}
    each = [
        f"{metric.spelled(value)}{' %' * metric.percent} on {kind} ({' x '.join(map(str, facts['grids'][kind]))})"
        for kind, value in facts["ceilings"].items()
    ]
    which = f"; {says}, upsampled, on {facts['n']} training images"
    return {what: sizes, bound: f"{name} {', '.join(each) or 'not known'}{which}"}


def beside_masks(
    pictures: Sequence[NDArray[Any]], rows: Sequence[int], backbone: Backbone, dataset: Dataset
) -> list[NDArray[Any]]:
    """Pictures of what a backbone sees, each with what is said of its pixels on the right; as they are without that.

    Args:
        pictures: (H, W, 3) of all views of each row.
        rows: The number of each picture's row; of several views one below the other.
        backbone: What sees them.
        dataset: With labels of pixels, or others.
    """
    train = dataset.leading
    if not dataset.target.per_pixel or not isinstance(backbone, Located):
        return list(pictures)
    n_views = backbone.n if isinstance(backbone, MultiView) else 1
    background, n_classes = getattr(dataset.target, "background", None), len(dataset.class_names)
    found = []
    for place, (picture, row) in enumerate(zip(pictures, rows, strict=True)):
        labels = np.asarray(pixels_of(train)[int(row)])
        geometry = geometries_of(backbone, (labels.shape[1], labels.shape[0]))[place % n_views]
        seen = geometry.seen(labels, picture.shape[0], picture.shape[1], no_label(labels.dtype))
        if isinstance(train, HasNumberMaps):
            painted = coloured(seen, float(np.nanmin(labels)), float(np.nanmax(labels)))
        else:
            painted = np.asarray(overlay(Image.fromarray(picture), seen, n_classes, background))
        found.append(np.hstack([picture, painted]))
    return found


def with_legend(sheet: Image.Image, dataset: Dataset) -> Image.Image:
    """The pictures above the colours of the classes; as they are without masks."""
    if not isinstance(dataset.leading, HasMasks):
        return sheet
    codes = [k for k in range(len(dataset.class_names)) if k != getattr(dataset.target, "background", None)]
    named = legend(dataset.class_names, codes[:N_NAMED], sheet.width, len(dataset.class_names))
    whole = Image.new("RGB", (sheet.width, sheet.height + named.height + GAP), "white")
    whole.paste(sheet, (0, 0))
    whole.paste(named, (0, sheet.height + GAP))
    return whole
