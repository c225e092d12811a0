"""Images with masks in files: two folders side by side, or a table that names both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.base import Dataset
from probe.core.images import upright_size
from probe.core.targets.mask import Mask
from probe.datasets.shared.columns import MASK
from probe.datasets.shared.labels import read_class_names
from probe.datasets.shared.mask_codes import Ignored, read_palette
from probe.datasets.shared.mask_images import Pairs, masks_of
from probe.datasets.shared.paired_files import Labelled, find
from probe.datasets.shared.partitions import ImageFiles
from probe.datasets.shared.row_facts import know


def load(
    path: str | None = None,
    name: str | None = None,
    images: str = "images",
    masks: str = "masks",
    mask_suffix: str = "",
    image_column: str | None = None,
    mask_column: str | None = None,
    partition_column: str | None = None,
    group_column: str | None = None,
    class_names: str | Sequence[str] | None = None,
    palette: str | Mapping[str, Any] | None = None,
    ignore_label: Ignored = 255,
    background: str | None = None,
    follow_links: bool = False,
) -> Dataset:
    """Reads `<path>/images/train/**/<image>` with `<path>/masks/train/**/<image>.png`, or files named in a table.

    Partitions are `train`, `test` and `validation` (`training`, `val`, ...), below the two folders or above them
    (`<path>/train/images`). Without test, validation is the test partition; without any of them all images are train,
    for protocols that draw test rows from it. A mask is called as its image, with any extension, and as large.

    Pixels are codes, of palettes the index; images of colours need `palette`.

    Args:
        path: The folder, or a table with a column of images and one of masks, relative to its own folder.
        name: How tables call the dataset; the folder's name, or the table's, by default.
        images, masks: The two folders.
        mask_suffix: Put behind the stem of an image to get that of its mask, such as `_mask`.
        image_column, mask_column, partition_column, group_column: Of a table; by default those called so.
        class_names: Of the codes in ascending order, ignored ones aside: a list, or a text file with one per line. By
            default classes are called by their codes.
        palette: What stands for each class: `{background: 0, cell: 255}`, `{road: [128, 64, 128], ...}`, or a text
            file with such a line for each, `128 64 128 road`.
        ignore_label: A code, a class, or several: pixels of these count nowhere.
        background: The class that is no object, left out of `f1_foreground`; by default the one called background.
        follow_links: Symbolic links that lead out of the folder are refused unless this is true; links inside it are
            followed either way. Files that a table names are read wherever they are.
    """
    columns = (image_column, mask_column, partition_column, group_column)
    found = find("masks", path, (images, masks), mask_suffix, columns, follow_links, Labelled("mask", MASK))
    return masks_of(
        name or found.called,
        {part: _pairs(found.root, *files) for part, files in found.names.items()},
        read_class_names(class_names),
        read_palette(palette),
        ignore_label,
        background,
        found.left_out,
        lambda part, partition: know(partition, {"groups": found.groups.get(part)}, part),
    )


def _pairs(root: Path, images: list[str], masks: list[str]) -> Pairs:
    return Pairs(
        lambda labels: ImageFiles(root, images, labels, Mask()),
        ImageFiles(root, masks, np.zeros(len(masks), dtype=np.int64)),
        lambda row: upright_size(root / images[row]),
        [root / name for name in (*images, *masks)],
    )
