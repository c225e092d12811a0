"""What perfect knowledge of patches would reach: the mIoU, or the RMSE, that a grid can say at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from probe.core.base import Backbone
from probe.core.targets.mask import HasMasks
from probe.core.targets.number_map import HasNumberMaps
from probe.experiment.dense import geometries_of, likeliest, upsampled
from probe.heads.shared.dense_labels import class_shares, place_means
from probe.metrics.dense import iou, mean_ratio, of_images, shown
from probe.metrics.shared.scores import score
from probe.metrics.shared.scores.mask import ImageTally


def ceiling(part: HasMasks, rows: Sequence[int], backbone: Backbone, grid: tuple[int, int], n_classes: int) -> float:
    """mIoU of masks that were pooled to a grid, as the shares of the classes of each place, and upsampled again.

    Whatever a head knows of a patch, it says one number per class for all of its pixels: small and thin things are lost
    between them. It is no strict bound, since numbers other than shares may draw edges better by chance.

    Args:
        part: Images with masks.
        rows: Those to look at.
        backbone: That says where its input lies in an image.
        grid: (h, w) of its map.
        n_classes: K.
    """
    located: Any = backbone
    size = located.image_size
    tallies, labels = [], []
    for row in rows:
        mask = np.asarray(part.masks[int(row)])
        height, width = mask.shape
        geometries = geometries_of(located, (width, height))
        outside = int(np.iinfo(mask.dtype).max)
        logits = [
            class_shares(geometry.seen(mask, size[0], size[1], outside)[None], grid, np.arange(n_classes))[0]
            for geometry in geometries
        ]
        shares = [values.T.reshape(n_classes, *grid) for values in logits]
        found = likeliest(upsampled(shares, geometries, height, width))
        tallies.append(ImageTally.of(found, mask, n_classes))
        labels.append(np.bincount(mask[mask < n_classes], minlength=n_classes))
    scores = score(tallies, np.array(labels, dtype=np.int64), "mask")
    return mean_ratio(of_images(scores), iou, shown(scores))[0]


def least_rmse(part: HasNumberMaps, rows: Sequence[int], backbone: Backbone, grid: tuple[int, int]) -> float:
    """RMSE, averaged over images, of maps that were pooled to a grid, as means of its places, and upsampled again.

    A place without a labelled pixel has the mean of its image. As with classes it is no strict bound.

    Args:
        part: Images with a number per pixel.
        rows: Those to look at.
        backbone: That says where its input lies in an image.
        grid: (h, w) of its map.
    """
    located: Any = backbone
    height, width = located.image_size
    found = []
    for row in rows:
        numbers = part.number_maps[int(row)]
        known = np.isfinite(numbers)
        geometries = geometries_of(located, numbers.shape[::-1])
        means = []
        for geometry in geometries:
            seen = geometry.seen(numbers, height, width, np.nan)
            of_places = place_means(seen[None], grid)[0].reshape(1, *grid)
            means.append(np.where(np.isfinite(of_places), of_places, numbers[known].mean()))
        said = np.concatenate([band[0].numpy() for _, band in upsampled(means, geometries, *numbers.shape)])
        found.append(np.sqrt(np.mean((said[known] - numbers[known]) ** 2)))
    return float(np.mean(found))
