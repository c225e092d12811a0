"""What `probe describe` says and shows of images with masks."""

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
from probe.experiment.ceilings import ceiling
from probe.experiment.dense import geometries_of

N_IMAGES = 500
PIXEL_BUDGET = 2**30
"""Classes times pixels that ceilings look at."""
N_GRIDS = 6
N_NAMED = 40
GAP = 2


def mask_facts(backbone: Backbone, dataset: Dataset, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Sizes of the masks and, of every map of the backbone, what mIoU its grid allows; None where there are no masks.

    Args:
        backbone: What reads the images.
        dataset: With the masks, or others.
        shapes: Of one row of each kind.
    """
    train = dataset.leading
    if not isinstance(train, HasMasks):
        return None
    n_classes = len(dataset.class_names)
    first = train.masks[0]
    n = max(1, min(N_IMAGES, len(train.masks), PIXEL_BUDGET // (n_classes * first.size)))
    rows = np.linspace(0, len(train.masks) - 1, n).astype(int)
    sizes = np.array([train.masks[int(row)].shape[::-1] for row in rows[: min(n, 50)]])
    n_views = backbone.n if isinstance(backbone, MultiView) else 1
    grids = {kind: shape[-2:] for kind, shape in shapes.items() if len(shape) - (n_views > 1) == 3}
    found, fault = {}, "" if grids else "it gives no map: choose a backbone that does, or tap a layer that is one"
    try:
        for kind, grid in list(grids.items())[:N_GRIDS] if isinstance(backbone, Located) else ():
            found[kind] = ceiling(train, rows.tolist(), backbone, (int(grid[0]), int(grid[1])), n_classes)
    except DoesNotFit as error:
        fault = str(error)
    return {
        "least": sizes.min(axis=0).tolist(), "most": sizes.max(axis=0).tolist(), "n": n, "ceilings": found,
        "grids": {kind: list(grid) for kind, grid in grids.items()}, "fault": fault,
    }  # fmt: skip


def told(facts: Mapping[str, Any]) -> dict[str, str]:
    """The lines of `probe describe`."""
    least, most = (f"{width} x {height}" for width, height in (facts["least"], facts["most"]))
    sizes = f"{least} pixels" if least == most else f"{least} to {most} pixels"
    if facts["fault"]:
        return {"masks": sizes, "ceiling": f"not known: {facts['fault']}"}
    each = [
        f"{100 * value:.1f} % on {kind} ({' x '.join(map(str, facts['grids'][kind]))})"
        for kind, value in facts["ceilings"].items()
    ]
    which = f"; a perfect classifier of patches, upsampled, on {facts['n']} training images"
    return {"masks": sizes, "ceiling": f"mIoU {', '.join(each) or 'not known'}{which}"}


def beside_masks(
    pictures: Sequence[NDArray[Any]], rows: Sequence[int], backbone: Backbone, dataset: Dataset
) -> list[NDArray[Any]]:
    """Pictures of what a backbone sees, each with its mask over it on the right; as they are without masks.

    Args:
        pictures: (H, W, 3) of all views of each row.
        rows: The number of each picture's row; of several views one below the other.
        backbone: What sees them.
        dataset: With the masks.
    """
    train = dataset.leading
    if not isinstance(train, HasMasks) or not isinstance(backbone, Located):
        return list(pictures)
    n_views = backbone.n if isinstance(backbone, MultiView) else 1
    background, n_classes = getattr(dataset.target, "background", None), len(dataset.class_names)
    found = []
    for place, (picture, row) in enumerate(zip(pictures, rows, strict=True)):
        mask = np.asarray(train.masks[int(row)])
        geometry = geometries_of(backbone, (mask.shape[1], mask.shape[0]))[place % n_views]
        seen = geometry.seen(mask, picture.shape[0], picture.shape[1], int(np.iinfo(mask.dtype).max))
        painted = overlay(Image.fromarray(picture), seen, n_classes, background)
        found.append(np.hstack([picture, np.asarray(painted)]))
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
