"""Files below a folder, whose symbolic links do not lead out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from probe.core.errors import InputError
from probe.core.images import EXTENSIONS


def is_image(name: str) -> bool:
    """Whether a file is called as an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def files_below(folder: Path, inside: str, follow_links: bool, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All files below a folder, hidden ones and hidden folders aside; links of images and of folders are checked.

    Args:
        folder: Where to look.
        inside: The real path of the dataset's folder.
        follow_links: Whether links may lead out of it.
        above: Real paths of the folders on the way here.

    Raises:
        InputError: A link that leads nowhere, out of the dataset's folder, or to a folder above it.
    """
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"{folder} is a symbolic link to a folder above it, expected no loops: remove the link")
    check_link(folder, inside, follow_links)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from files_below(folder / entry.name, inside, follow_links, (*above, real))
            else:
                if entry.is_symlink() and is_image(entry.name):
                    check_link(folder / entry.name, inside, follow_links)
                yield folder / entry.name


def check_link(path: Path, inside: str, follow_links: bool) -> None:
    """Refuses a link that leads nowhere, or out of the dataset's folder where that is not wanted."""
    real = os.path.realpath(path)
    if not os.path.exists(real):
        raise InputError(f"{path} is a symbolic link to {real}, which does not exist: remove or mend the link")
    if not follow_links and os.path.commonpath([inside, real]) != inside:
        raise InputError(
            f"{path} is a symbolic link out of the dataset's folder, to {real}: copy what it points to, or set "
            "dataset.follow_links=true if it is meant to be there"
        )
