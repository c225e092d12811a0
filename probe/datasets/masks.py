"""Images with masks in files: two folders side by side, or a table that names both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.images import upright_size
from probe.core.targets.mask import Mask
from probe.core.texts import one_spelling
from probe.core.words import counted
from probe.datasets.shared.columns import IMAGE, MASK, Role, required
from probe.datasets.shared.files_below import files_below, is_image
from probe.datasets.shared.labels import read_class_names
from probe.datasets.shared.mask_codes import Ignored, read_palette
from probe.datasets.shared.mask_images import Pairs, masks_of
from probe.datasets.shared.partitions import ImageFiles
from probe.datasets.shared.row_facts import know
from probe.datasets.shared.sources import on_disk, passed_over
from probe.datasets.shared.split_tables import PART_OF, PARTITIONS, column_of, fact_of, tables_of_file
from probe.datasets.shared.tables import read_table

FILES = Role("image files", "image_column", (*IMAGE.clear, "file"), (*IMAGE.usual, "filename", "image_path", "path"))
Names = dict[str, tuple[list[str], list[str]]]
"""Of each partition the image files and their masks, below a root."""


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
    if path is None:
        raise InputError("dataset=masks needs a folder or a table, none is given: set dataset.path=<folder>")
    root = Path(path).expanduser()
    if not root.exists():
        raise InputError(f"dataset.path {path} is not there, expected a folder or a table: give its path")
    groups: dict[str, Any] = {}
    if root.is_dir():
        called, found, left_out = root.resolve().name, *_of_folders(root, images, masks, mask_suffix, follow_links)
    else:
        called, columns = root.stem, (image_column, mask_column, partition_column, group_column)
        found, groups, left_out = _of_table(root, columns)
        root = root.parent
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    return masks_of(
        name or called,
        {part: _pairs(root, *found[part]) for part in PARTITIONS if part in found},
        read_class_names(class_names),
        read_palette(palette),
        ignore_label,
        background,
        left_out,
        lambda part, partition: know(partition, {"groups": groups.get(part)}, part),
    )


def _pairs(root: Path, images: list[str], masks: list[str]) -> Pairs:
    return Pairs(
        lambda labels: ImageFiles(root, images, labels, Mask()),
        ImageFiles(root, masks, np.zeros(len(masks), dtype=np.int64)),
        lambda row: upright_size(root / images[row]),
        [root / name for name in (*images, *masks)],
    )


def _of_folders(root: Path, images: str, masks: str, suffix: str, follow_links: bool) -> tuple[Names, list[str]]:
    """The files of each partition, below the two folders or beside them, and what is left over."""
    above = [entry.name for entry in sorted(root.iterdir()) if (entry / images).is_dir() and (entry / masks).is_dir()]
    folders = {f"{part}/{images}": f"{part}/{masks}" for part in above if part.lower() in PART_OF}
    parts = {place: PART_OF[place.partition("/")[0].lower()] for place in folders}
    if not folders:
        for folder in (images, masks):
            if not (root / folder).is_dir():
                there = ", ".join(sorted(entry.name for entry in root.iterdir())[:10]) or "nothing"
                raise InputError(
                    f"{root} has {there}, expected the folders {images}/ and {masks}/: arrange the files so, or name "
                    "the folders with dataset.images=... dataset.masks=..."
                )
        below = [entry.name for entry in sorted((root / images).iterdir()) if entry.is_dir()]
        known = [name for name in below if name.lower() in PART_OF]
        folders = {f"{images}/{name}": f"{masks}/{name}" for name in known} or {images: masks}
        parts = {f"{images}/{name}": PART_OF[name.lower()] for name in known} or {images: "train"}
    if len(set(parts.values())) < len(parts) or "train" not in parts.values():
        raise InputError(
            f"{root} has the partitions {', '.join(sorted(parts))}, expected one train and perhaps one test and one "
            f"validation (of {', '.join(PARTITIONS['validation'])} one): rename or remove the others"
        )
    found, left_out, lacking = Names(), [], []
    for place, beside in folders.items():
        pictures, foreign = _below(root, place, follow_links)
        drawn, more = _below(root, beside, follow_links)
        if not pictures:
            raise InputError(f"{root / place} holds no image, expected some: add them, or remove the folder")
        by_stem = _by_stem(root, drawn, beside)
        wanted = {file: f"{_stem(file, place)}{one_spelling(suffix)}" for file in pictures}
        lacking += [(file, f"{beside}/{stem}.png") for file, stem in wanted.items() if stem not in by_stem]
        found[parts[place]] = pictures, [by_stem.get(stem, "") for stem in wanted.values()]
        alone = len(by_stem) - len(set(wanted.values()) & by_stem.keys())
        left_out += [f"{counted(alone, 'mask')} of {parts[place]} without an image"] if alone else []
        left_out += passed_over([*foreign, *more], f"no image by its extension, of {parts[place]}")
    if lacking:
        raise InputError(
            f"{counted(len(lacking), 'image')} in {root} ha{'s' if len(lacking) == 1 else 've'} no mask, the first is "
            f"{lacking[0][0]}, expected {lacking[0][1]}: add it, remove the image, or set dataset.mask_suffix"
        )
    return found, left_out


def _below(root: Path, folder: str, follow_links: bool) -> tuple[list[str], list[str]]:
    """Image files below a folder, by path from the root in order, and the names of other files."""
    there = os.path.lexists(root / folder)
    files = sorted(files_below(root / folder, os.path.realpath(root), follow_links)) if there else []
    found = [p.relative_to(root).as_posix() for p in files if is_image(p.name)]
    return found, [p.name for p in files if not is_image(p.name)]


def _stem(file: str, folder: str) -> str:
    """The path below a folder without an extension, in one spelling of accents."""
    return one_spelling(Path(file).relative_to(folder).with_suffix("").as_posix())


def _by_stem(root: Path, files: Sequence[str], folder: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        if (other := found.setdefault(_stem(file, folder), file)) != file:
            raise InputError(
                f"{root} has two masks of one image, {other} and {file}, expected one: remove or rename the other"
            )
    return found


def _of_table(file: Path, columns: Sequence[str | None]) -> tuple[Names, dict[str, Any], list[str]]:
    """The files that a table names, and the groups of its rows."""
    image, mask, partition, group = columns
    tables, partition_key, left_out = tables_of_file(file, read_table, partition)
    there = dict.fromkeys(tables["train"].columns, "")
    free = [column for column in there if column not in (partition_key, group)]
    mask = required(MASK, file, there, mask, free)
    image = required(FILES, file, there, image, [column for column in free if column != mask])
    found = {}
    for part, table in tables.items():
        both = [on_disk(file.parent, [value.strip() for value in column_of(table, key)]) for key in (image, mask)]
        found[part] = both[0], both[1]
        for what, names in (("image", both[0]), ("mask", both[1])):
            lost = [(row, name) for row, name in enumerate(names) if not name or not (file.parent / name).is_file()]
            if lost:
                raise InputError(
                    f"{counted(len(lost), what)} of {part} named in {file} {'is' if len(lost) == 1 else 'are'} not "
                    f"there, the first is {lost[0][1] or 'empty'} (row {lost[0][0]}), expected files relative to the "
                    "table: add them, or mend the table"
                )
    return found, {part: fact_of(table, group, part) for part, table in tables.items()}, left_out
