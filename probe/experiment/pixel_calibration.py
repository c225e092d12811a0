"""What training images that a second fit never sees say of its logits of pixels: one temperature."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from probe.core.arrays import RowSubset
from probe.core.base import IntArray
from probe.core.targets.mask import Mask
from probe.experiment.calibration import FRACTION, Calibrated, chosen, without_lone_rows
from probe.experiment.choosing import fit
from probe.experiment.dense import outputs_of_pixels
from probe.experiment.reading import Part, ReadRows
from probe.heads.shared.base import AnyHead
from probe.metrics.evaluate import measure
from probe.metrics.pixel_calibration import PixelLosses, of_pixels
from probe.metrics.shared.bins import N_BINS
from probe.metrics.shared.temperature import fit_temperature

if TYPE_CHECKING:
    from torch import Tensor

N_PIXELS = 100_000
"""Pixels of held-out images that a temperature is fitted on, as many of each image."""


def calibrate_pixels(
    head: AnyHead,
    rows: ReadRows,
    held: NDArray[np.bool_],
    *,
    n_classes: int,
    groups: IntArray | None = None,
    test_groups: IntArray | None = None,
) -> Calibrated:
    """Fits a head without the held-out images, selection included, and scales its logits by what they say.

    Logits are those of the pixels, after interpolation and over all views. Pixels of an image are much alike, so there
    are no conformal sets: held-out pixels promise nothing of single ones.

    Args:
        head: Unfitted.
        rows: Of the run.
        held: (n,) which of the training images are held out.
        n_classes: Of the dataset.
        groups: Of the training images, where the dataset names some.
        test_groups: Of the test images.
    """
    part, kept = rows.train, some(rows.train, np.flatnonzero(~held))
    strata = Mask().strata(part.y)
    folds = without_lone_rows(rows.folds, strata, np.flatnonzero(~held), groups)
    validation = rows.validation.X, rows.validation.targets
    fitted = fit(clone(head), (kept.X, kept.targets), validation, kept.in_views(folds), {})
    inside = some(part, np.flatnonzero(held))
    temperature = fit_temperature(*sample(fitted, inside, n_classes))
    unscaled, scaled = losses(fitted, rows.test, n_classes, (1.0, temperature), test_groups)
    before = measure({"scaled": unscaled}).metrics
    record = {
        "n_held_out": int(held.sum()),
        "fraction": FRACTION,
        "temperature": temperature,
        "unscaled": {name.removeprefix("scaled_"): vars(interval) for name, interval in before.items()},
        "chosen": chosen(fitted),
    }
    return Calibrated(None, {"scaled": scaled}, record)


def some(part: Part, images: IntArray) -> Part:
    """Some of the images of a part, with all their views."""
    assert part.places is not None
    n, masks = len(part.y), part.places.masks.rows(images)
    rows = np.concatenate([view * n + images for view in range(len(part.X) // n)])
    seen = RowSubset(part.places.seen, rows)
    places = replace(part.places, masks=masks, seen=seen)
    return Part(RowSubset(part.X, rows), part.y[images], part.rows[images], places)


Labelled = tuple[NDArray[np.float32], IntArray]
"""Logits (K, n) of pixels over all classes of a dataset, and (n,) their classes."""


def labelled(head: Any, part: Part, n_classes: int) -> Iterator[Iterator[Labelled]]:
    """Of each image its labelled pixels, band by band."""
    assert part.places is not None
    for place, bands in enumerate(outputs_of_pixels(head, part)):
        yield _labelled(head.classes_, part.places.masks[place], bands, n_classes)


def _labelled(
    classes: IntArray, mask: NDArray[Any], bands: Iterable[tuple[slice, Tensor]], n_classes: int
) -> Iterator[Labelled]:
    for band, logits in bands:
        known = mask[band] < n_classes
        full = np.full((n_classes, int(known.sum())), -np.inf, np.float32)
        full[classes] = logits.numpy()[:, known]
        yield full, mask[band][known].astype(np.int64)


def sample(head: Any, part: Part, n_classes: int) -> tuple[NDArray[np.float32], IntArray]:
    """(n, K) logits and (n,) classes of about `N_PIXELS` labelled pixels, drawn alike from every image."""
    shares = N_PIXELS / len(part.y) / part.y.sum(axis=1)
    random = np.random.default_rng(0)
    logits, labels = [], []
    for share, bands in zip(shares, labelled(head, part, n_classes), strict=True):
        for found, codes in bands:
            drawn = random.permutation(len(codes))[: math.ceil(share * len(codes))]
            logits.append(found[:, drawn].T)
            labels.append(codes[drawn])
    return np.concatenate(logits), np.concatenate(labels)


def losses(
    head: Any, part: Part, n_classes: int, temperatures: tuple[float, ...], groups: IntArray | None
) -> list[PixelLosses]:
    """For each temperature what the probabilities of the pixels of some images are worth."""
    from torch import from_numpy

    tables = np.zeros((len(temperatures), len(part.y), 2 + N_BINS))
    for place, bands in enumerate(labelled(head, part, n_classes)):
        for found, codes in bands:
            for table, temperature in zip(tables, temperatures, strict=True):
                table[place] += of_pixels(from_numpy(found / temperature).log_softmax(0).numpy(), codes)
    return [PixelLosses(t[:, 0], t[:, 2:], t[:, 1].astype(np.int64), groups) for t in tables]
