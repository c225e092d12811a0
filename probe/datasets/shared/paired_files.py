"""Images beside files that say something of each of their pixels: two folders, or a table that names both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from probe.core.errors import InputError
from probe.core.texts import one_spelling
from probe.core.words import counted
from probe.datasets.shared.columns import IMAGE, Role, required
from probe.datasets.shared.files_below import check_link, files_below, is_image
from probe.datasets.shared.sources import on_disk, passed_over
from probe.datasets.shared.split_tables import PART_OF, PARTITIONS, column_of, fact_of, tables_of_file
from probe.datasets.shared.tables import read_table

FILES = Role("image files", "image_column", (*IMAGE.clear, "file"), (*IMAGE.usual, "filename", "image_path", "path"))
NONE: frozenset[str] = frozenset()
Names = dict[str, tuple[list[str], list[str]]]
"""Of each partition the image files and those beside them, below a root."""


class Labelled(NamedTuple):
    """What stands beside the images.

    Attributes:
        name: How errors and parameters call one, such as `mask` of `dataset.masks` and `dataset.mask_suffix`.
        role: Of a table's column.
        extensions: Of files that are no images, in lower case with the dot.
    """

    name: str
    role: Role
    extensions: frozenset[str] = NONE


class Found(NamedTuple):
    """The files of a dataset.

    Attributes:
        root: Below which they are.
        called: The folder's name, or the table's.
        names: Of each partition, train first; without test, validation is the test partition.
        groups: Of the rows of each partition, where a table has them.
        left_out: Phrases.
    """

    root: Path
    called: str
    names: Names
    groups: dict[str, Any]
    left_out: list[str]


def find(
    dataset: str,
    path: str | None,
    folders: tuple[str, str],
    suffix: str,
    columns: Sequence[str | None],
    follow_links: bool,
    what: Labelled,
) -> Found:
    """The files below a folder, or those that a table names.

    Args:
        dataset: Its choice, for the sentence.
        path: The folder or the table.
        folders: Of images and of what is beside them.
        suffix: Behind the stem of an image.
        columns: Of a table, see `of_table`.
        follow_links: Whether links may lead out of the folder.
        what: Stands beside the images.
    """
    if path is None:
        raise InputError(f"dataset={dataset} needs a folder or a table, none is given: set dataset.path=<folder>")
    root = Path(path).expanduser()
    if not root.exists():
        raise InputError(f"dataset.path {path} is not there, expected a folder or a table: give its path")
    if root.is_dir():
        called, groups = root.resolve().name, dict[str, Any]()
        names, left_out = of_folders(root, *folders, suffix, follow_links, what)
    else:
        called, (names, groups, left_out) = root.stem, of_table(root, columns, what)
        root = root.parent
    if "test" not in names and "validation" in names:
        names["test"] = names.pop("validation")
    return Found(root, called, {part: names[part] for part in PARTITIONS if part in names}, groups, left_out)


def of_folders(
    root: Path, images: str, labels: str, suffix: str, follow_links: bool, what: Labelled
) -> tuple[Names, list[str]]:
    """The files of each partition, below the two folders or beside them, and what is left over.

    Raises:
        InputError: Folders or partitions are not there, an image has no file beside it, or several.
    """
    above = [entry.name for entry in sorted(root.iterdir()) if (entry / images).is_dir() and (entry / labels).is_dir()]
    folders = {f"{part}/{images}": f"{part}/{labels}" for part in above if part.lower() in PART_OF}
    parts = {place: PART_OF[place.partition("/")[0].lower()] for place in folders}
    if not folders:
        for folder in (images, labels):
            if not (root / folder).is_dir():
                there = ", ".join(sorted(entry.name for entry in root.iterdir())[:10]) or "nothing"
                raise InputError(
                    f"{root} has {there}, expected the folders {images}/ and {labels}/: arrange the files so, or name "
                    f"the folders with dataset.images=... dataset.{what.name}s=..."
                )
        below = [entry.name for entry in sorted((root / images).iterdir()) if entry.is_dir()]
        known = [name for name in below if name.lower() in PART_OF]
        folders = {f"{images}/{name}": f"{labels}/{name}" for name in known} or {images: labels}
        parts = {f"{images}/{name}": PART_OF[name.lower()] for name in known} or {images: "train"}
    if len(set(parts.values())) < len(parts) or "train" not in parts.values():
        raise InputError(
            f"{root} has the partitions {', '.join(sorted(parts))}, expected one train and perhaps one test and one "
            f"validation (of {', '.join(PARTITIONS['validation'])} one): rename or remove the others"
        )
    found, left_out, lacking = Names(), [], []
    for place, beside in folders.items():
        pictures, foreign = _below(root, place, follow_links)
        drawn, more = _below(root, beside, follow_links, what.extensions)
        if not pictures:
            raise InputError(f"{root / place} holds no image, expected some: add them, or remove the folder")
        by_stem = _by_stem(root, drawn, beside, what.name)
        wanted = {file: f"{_stem(file, place)}{one_spelling(suffix)}" for file in pictures}
        lacking += [(file, f"{beside}/{stem}.png") for file, stem in wanted.items() if stem not in by_stem]
        found[parts[place]] = pictures, [by_stem.get(stem, "") for stem in wanted.values()]
        alone = len(by_stem) - len(set(wanted.values()) & by_stem.keys())
        left_out += [f"{counted(alone, what.name)} of {parts[place]} without an image"] if alone else []
        left_out += passed_over([*foreign, *more], f"no image by its extension, of {parts[place]}")
    if lacking:
        raise InputError(
            f"{counted(len(lacking), 'image')} in {root} ha{'s' if len(lacking) == 1 else 've'} no "
            f"{what.name}, the first is {lacking[0][0]}, expected {lacking[0][1]}: add it, remove the image, or set "
            f"dataset.{what.name}_suffix"
        )
    return found, left_out


def _below(root: Path, folder: str, follow_links: bool, more: frozenset[str] = NONE) -> tuple[list[str], list[str]]:
    """Image files below a folder, or those of more extensions, by path from the root, and the names of other files."""
    there, inside = os.path.lexists(root / folder), os.path.realpath(root)
    files = sorted(files_below(root / folder, inside, follow_links)) if there else []
    taken, foreign = list[Path](), list[Path]()
    for path in files:
        (taken if is_image(path.name) or path.suffix.lower() in more else foreign).append(path)
    for path in taken:
        if path.is_symlink() and not is_image(path.name):  # those of images are checked already
            check_link(path, inside, follow_links)
    return [p.relative_to(root).as_posix() for p in taken], [p.name for p in foreign]


def _stem(file: str, folder: str) -> str:
    """The path below a folder without an extension, in one spelling of accents."""
    return one_spelling(Path(file).relative_to(folder).with_suffix("").as_posix())


def _by_stem(root: Path, files: Sequence[str], folder: str, what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        if (other := found.setdefault(_stem(file, folder), file)) != file:
            raise InputError(
                f"{root} has two {what}s of one image, {other} and {file}, expected one: remove or rename the other"
            )
    return found


def of_table(file: Path, columns: Sequence[str | None], what: Labelled) -> tuple[Names, dict[str, Any], list[str]]:
    """The files that a table names, the groups of its rows, and what is left over.

    Args:
        file: The table; files are relative to its folder.
        columns: Those of images, of what is beside them, of the partition and of the group; None to be found.
        what: Stands beside the images.
    """
    image, label, partition, group = columns
    tables, partition_key, left_out = tables_of_file(file, read_table, partition)
    there = dict.fromkeys(tables["train"].columns, "")
    free = [column for column in there if column not in (partition_key, group)]
    label = required(what.role, file, there, label, free)
    image = required(FILES, file, there, image, [column for column in free if column != label])
    found = {}
    for part, table in tables.items():
        both = [on_disk(file.parent, [value.strip() for value in column_of(table, key)]) for key in (image, label)]
        found[part] = both[0], both[1]
        for called, names in (("image", both[0]), (what.name, both[1])):
            lost = [(row, name) for row, name in enumerate(names) if not name or not (file.parent / name).is_file()]
            if lost:
                raise InputError(
                    f"{counted(len(lost), called)} of {part} named in {file} {'is' if len(lost) == 1 else 'are'} not "
                    f"there, the first is {lost[0][1] or 'empty'} (row {lost[0][0]}), expected files relative to the "
                    "table: add them, or mend the table"
                )
    return found, {part: fact_of(table, group, part) for part, table in tables.items()}, left_out
