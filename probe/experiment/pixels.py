"""What a run on masks says beside its metrics: how pixels were counted, every class, and pictures of three images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from probe.backbones.shared.views import MultiView
from probe.core.base import Backbone, Dataset, IntArray
from probe.core.escaping import one_line
from probe.core.images import to_rgb
from probe.core.overlays import LINE, MARGIN, legend, overlay
from probe.core.targets.mask import HasMasks, Mask, pixel_shares
from probe.core.writing import write_file
from probe.metrics.dense import by_class, shown
from probe.metrics.shared.scores.mask import MaskScores
from probe.results.schema import OVERLAYS

Maps = Callable[[int], NDArray[Any]]
"""From the place of a test row to the (H, W) classes that were predicted for its pixels."""
WINDOWS = "windows"
LEAST_SIDE, LARGEST_SIDE, GAP = 128, 320, 4
"""Pixels of the pictures of an image: small ones are enlarged by a whole factor."""
Rows = Sequence[tuple[Sequence[Image.Image], str]]
"""Of each image its pictures, side by side, and what is said below them."""
N_NAMED = 40
"""Classes in the legend of the pictures."""


def of_masks(
    scores: MaskScores, learnt: IntArray, dataset: Dataset, backbone: Backbone, rows: IntArray
) -> dict[str, Any]:
    """What the record says of the test images.

    Args:
        scores: Of the test images.
        learnt: (n, K) pixels of the images that the head may learn from.
        dataset: Whose classes they are.
        backbone: Which the head reads.
        rows: (N,) numbers of the test images in their partition.
    """
    return {
        "evaluation": evaluation(scores, dataset, backbone),
        "classes": classes(scores, learnt, dataset.class_names),
        "overlays": [{"which": which, "row": int(rows[place]), "place": place, "miou": value}
                     for which, place, value in extremes(scores)],
    }  # fmt: skip


def evaluation(scores: MaskScores, dataset: Dataset, backbone: Backbone) -> dict[str, Any]:
    """How pixels were counted; what differs in it shares no column of a table.

    `averaged` names the classes that means are over: those that the masks of the test images show.
    """
    target = dataset.target
    return {
        "size": "of the masks",
        "ignored_codes": list(target.ignored_codes) if isinstance(target, Mask) else [],
        "windows": n_windows(backbone),
        "averaged": [dataset.class_names[k] for k in np.flatnonzero(shown(scores))],
    }


def n_windows(backbone: Backbone) -> int:
    """How many windows of an image are looked at beside the whole."""
    return backbone.n - 1 if isinstance(backbone, MultiView) and backbone.kind == WINDOWS else 0


def classes(scores: MaskScores, learnt: IntArray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Every class: its share of the training pixels, its test pixels, and IoU, F1 and accuracy with intervals."""
    shares = pixel_shares(learnt)
    return [
        {
            "name": name,
            "train_share": float(share),
            "test_pixels": int(pixels),
            **({} if told is None else {key: vars(interval) for key, interval in told.items()}),
        }
        for name, share, pixels, told in zip(
            class_names, shares, scores.labels.sum(axis=0), by_class(scores), strict=True
        )
    ]


def image_iou(scores: MaskScores) -> NDArray[np.float64]:
    """(N,) mean IoU of each test image over the classes that its own mask shows."""
    unions = scores.labels + scores.predicted - scores.hits
    there = scores.labels > 0
    values = np.divide(scores.hits, unions, out=np.zeros(unions.shape), where=there)
    found: NDArray[np.float64] = values.sum(axis=1) / there.sum(axis=1)
    return found


def extremes(scores: MaskScores) -> list[tuple[str, int, float]]:
    """The best, the median and the worst image by its own mean IoU: name, place and value."""
    return best_median_worst(image_iou(scores), higher=True)


def best_median_worst(values: NDArray[np.float64], *, higher: bool) -> list[tuple[str, int, float]]:
    """Of values (N,) of images these three: name, place and value."""
    order = np.argsort(-values if higher else values, kind="stable")
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return [(which, int(place), float(values[place])) for which, place in places.items()]


def write_overlays(folder: Path, told: Sequence[dict[str, Any]], tested: Dataset, partition: str, maps: Maps) -> None:
    """`overlays.png` in a run's folder: the images that the record names, each with its mask and its prediction."""
    part, target = tested.partitions[partition], tested.target
    assert isinstance(part, HasMasks)
    n_classes, background = len(tested.class_names), getattr(target, "background", None)
    rows, seen = [], set[int]()
    for one in told:
        image, mask, found = to_rgb(part[one["row"]]), np.asarray(part.masks[one["row"]]), maps(one["place"])
        seen |= set(np.unique(mask[mask < n_classes]).tolist()) | set(np.unique(found).tolist())
        painted = [overlay(image, codes, n_classes, background) for codes in (mask, found)]
        caption = f"{one['which']}: {part.ids[one['row']]}, mIoU {100 * one['miou']:.1f} %"
        rows.append(([scaled(picture) for picture in (image, *painted)], caption))
    named = sorted(seen - {background})[:N_NAMED]
    write_sheet(folder, rows, ("image", "mask", "predicted"),
                lambda width: legend(tested.class_names, named, width, n_classes))  # fmt: skip


def write_sheet(
    folder: Path, rows: Rows, captions: Sequence[str], below: Callable[[int], Image.Image] | None = None
) -> None:
    """Pictures of some images as `overlays.png`.

    Args:
        folder: Of the run.
        rows: The pictures of each.
        captions: Of the columns.
        below: From the width to what stands under all of them.
    """
    column = max(picture.width for pictures, _ in rows for picture in pictures) + GAP
    lines = [_line(pictures, column, caption) for pictures, caption in rows]
    width = max(line.width for line in lines)
    sheet = _stacked([_captions(captions, column), *lines, *([below(width)] if below else [])], width)
    write_file(folder / OVERLAYS, lambda path: sheet.save(path, "png", optimize=True))


def _line(pictures: Sequence[Image.Image], column: int, caption: str) -> Image.Image:
    """Pictures of one size in columns, above what is said of them."""
    text, height = one_line(caption), pictures[0].height
    width = max(len(pictures) * column, int(ImageDraw.Draw(pictures[0]).textlength(text)) + MARGIN)
    line = Image.new("RGB", (width, height + LINE + MARGIN), "white")
    for i, picture in enumerate(pictures):
        line.paste(picture, (i * column, 0))
    ImageDraw.Draw(line).text((0, height + 1), text, fill="black")
    return line


def scaled(picture: Image.Image) -> Image.Image:
    """The picture, neither too small nor too large to be looked at."""
    factor = max(1, -(-LEAST_SIDE // max(picture.size)))
    if factor > 1:
        return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)
    smaller = picture.copy()
    smaller.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return smaller


def _captions(words: Sequence[str], column: int) -> Image.Image:
    picture = Image.new("RGB", (len(words) * column, LINE), "white")
    for i, word in enumerate(words):
        ImageDraw.Draw(picture).text((i * column, 0), word, fill="black")
    return picture


def _stacked(pictures: Sequence[Image.Image], width: int) -> Image.Image:
    sheet = Image.new("RGB", (width, sum(picture.height for picture in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet
