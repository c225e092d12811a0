"""Masks that are images themselves: decoded when asked for, looked through once, each beside its image."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset, IntArray, Partition, digest
from probe.core.errors import InputError
from probe.core.files import remembered
from probe.core.targets.mask import Mask
from probe.core.words import counted
from probe.datasets.shared.mask_codes import Ignored, MaskReading, Palette, raw_values, reading, unpacked, value_counts
from probe.datasets.shared.mask_rows import MaskPartition, MaskRows
from probe.datasets.shared.partitions import make_dataset

MAX_VALUES = 4096
"""Different ones in a mask; of more it is a photograph."""
BACKGROUND = "background"
Size = tuple[int, int]


class ImageMasks:
    """Masks of images in a partition of their own, such as one of files."""

    def __init__(self, images: Partition, how: MaskReading):
        self.images, self.how = images, how

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.how.codes(self.images[row], self.images.ids[row])

    def rows(self, indices: IntArray) -> MaskRows:
        """Those of some of the images."""
        return MaskRows(self, indices)


@dataclass(frozen=True)
class Pairs:
    """Images and their masks, before it is known which classes there are.

    Attributes:
        images: Of a partition, from their labels.
        masks: The masks as images.
        size_of: Width and height of an image, as it is seen; None where it cannot be read, which extraction tells.
        files: All that sizes and values depend on; of none, nothing is remembered.
        column: Of these files, that which holds the masks.
    """

    images: Callable[[IntArray], Partition]
    masks: Partition
    size_of: Callable[[int], Size | None]
    files: Sequence[Path] = ()
    column: str = ""


@dataclass(frozen=True)
class Seen:
    """What one look at a mask shows: pixels of each value, its size, and that of its image."""

    values: Mapping[int, int]
    size: Size
    image_size: Size | None


def masks_of(
    name: str,
    pairs: Mapping[str, Pairs],
    class_names: Sequence[str] | None,
    palette: Palette | None,
    ignore_label: Ignored,
    background: str | None,
    left_out: Sequence[str] = (),
    finish: Callable[[str, Partition], Partition] = lambda part, partition: partition,
) -> Dataset:
    """A dataset of images with masks; every mask is looked through once, which is remembered for files.

    Args:
        name: How tables call it.
        pairs: By partition.
        class_names, palette, ignore_label: See `mask_codes.reading`.
        background: The class that is no object; by default the one of that name.
        left_out: As `make_dataset` has it.
        finish: Adds what else is known of the rows of a partition.

    Raises:
        InputError: Masks of another size than their image, values that stand for nothing, and all else at once.
    """
    coloured = palette is not None and palette.coloured
    seen = {part: _look(pair, coloured) for part, pair in pairs.items()}
    in_train = sorted({value for one in seen["train"] for value in one.values})
    how = reading(in_train, class_names, palette, ignore_label)
    if faults := [f for part, pair in pairs.items() for f in _faults(part, pair, seen[part], how)]:
        raise InputError(f"dataset {name} cannot be used: {'; '.join(faults)}")
    target = Mask(how.ignored, _code_of(background, how.names))
    partitions, notes = {}, list(left_out)
    for part, pair in pairs.items():
        labels = np.array([how.counts(one.values) for one in seen[part]], dtype=np.int64)
        own = digest([how.facts, pair.masks.fingerprint])
        partitions[part] = finish(part, MaskPartition(pair.images(labels), ImageMasks(pair.masks, how), own))
        share = 1 - labels.sum() / sum(sum(one.values.values()) for one in seen[part])
        notes += [f"{100 * share:.2g} % of the pixels of {part}, which are ignored"] if share else []
    return make_dataset(name, how.names, partitions, target=target, left_out=notes, rows="images")


def _code_of(background: str | None, names: Sequence[str]) -> int | None:
    if background is not None and background not in names:
        raise InputError(f"background is {background!r}, expected one of {', '.join(names[:10])}: name a class")
    return next((k for k, name in enumerate(names) if name.lower() == (background or BACKGROUND).lower()), None)


def _look(pairs: Pairs, coloured: bool) -> list[Seen]:
    """Decodes every mask once, in threads, or remembers what was seen of these files."""

    def look(row: int) -> str:
        name = pairs.masks.ids[row]
        try:
            mask = pairs.masks[row]
        except InputError as error:  # which would say that an image can be skipped
            reason = str(error).partition(": ")[0]
            raise InputError(f"{reason}: mend this mask, or remove it and its image") from error
        raw = raw_values(mask, coloured, name)
        values, counts = value_counts(raw)
        if len(values) > MAX_VALUES:
            what = "colours" if coloured else "values"
            raise InputError(
                f"mask {name} has {len(values):,} {what}, expected one for each class: give the masks and not the "
                "images, saved without loss (PNG, not JPEG)"
            )
        size = [raw.shape[1], raw.shape[0]]
        return json.dumps([values.tolist(), counts.tolist(), size, pairs.size_of(row)])

    def compute() -> list[str]:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return list(pool.map(look, range(len(pairs.masks))))

    what = digest(["values of masks", pairs.column, list(pairs.masks.ids), coloured])
    told = remembered(what, pairs.files, compute)
    return [
        Seen(dict(zip(values, counts, strict=True)), tuple(size), own and tuple(own))
        for values, counts, size, own in map(json.loads, told)
    ]


def _faults(part: str, pairs: Pairs, seen: Sequence[Seen], how: MaskReading) -> list[str]:
    """What is wrong with the masks of a partition, a clause with its way out for each kind."""
    ids, faults = pairs.masks.ids, []
    odd = [row for row, one in enumerate(seen) if one.image_size and one.image_size != one.size]
    if odd:
        one = seen[odd[0]]
        assert one.image_size is not None
        sizes = [f"{width} x {height}" for width, height in (one.size, one.image_size)]
        faults.append(
            f"{counted(len(odd), 'mask')} of {part} differ{'s' * (len(odd) == 1)} in size from the image, the first is "
            f"{ids[odd[0]]} ({sizes[0]} pixels, its image {sizes[1]}), expected equal sizes: resize such masks without "
            "mixing codes (nearest)"
        )
    odd = [row for row, one in enumerate(seen) if how.unknown(one.values)]
    if odd:
        value = how.unknown(seen[odd[0]].values)[0]
        there = ", ".join(map(how.shown, how.values[:6])) + (", ..." if len(how.values) > 6 else "")
        faults.append(
            f"{counted(len(odd), 'mask')} of {part} hold{'s' * (len(odd) == 1)} codes out of range, the first is "
            f"{how.shown(value)} in {ids[odd[0]]}, where {there} can be: name its class in dataset.class_names or "
            f"dataset.palette, or {_ignore(value, how)}"
        )
    return faults


def _ignore(value: int, how: MaskReading) -> str:
    if how.coloured:
        return (
            f"give it a name in the palette, such as other: {list(unpacked(value))}, and set dataset.ignore_label=other"
        )
    every = sorted({*how.ignored, value})
    return f"leave its pixels out with 'dataset.ignore_label=[{','.join(map(str, every))}]'"
