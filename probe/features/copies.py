"""Finished passes on their way to another cache: copied by what their manifest names, and verified as they arrive.

What comes from elsewhere is not trusted: links, devices and files that no manifest names are never read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from probe.core.errors import InputError, StoreError
from probe.core.files import open_regular
from probe.core.writing import folder_for, writing
from probe.features.entry import read_pass
from probe.features.layout import TRASH_PREFIX, array_file, listed, move, pass_digest
from probe.features.manifest import MANIFEST
from probe.features.verification import verify_pass

REMEDY = "it is not copied, export it again from a cache that `probe cache verify` finds whole"


def copy_pass(folder: Path, entry: Path) -> None:
    """Copies a finished pass into an entry's folder, whole or not at all. What is there already stays.

    Raises:
        StoreError: It is not whole, or holds something else than regular files; the file is named.
        FileError: The place cannot be written.
    """
    with writing(entry):
        if listed(entry / folder.name):
            return
    part = entry / f"{TRASH_PREFIX}{uuid.uuid4().hex}"
    try:
        with writing(entry), folder_for(part), removed(part):
            part.mkdir()
            copy_files(folder, part, [MANIFEST])
            copy_files(folder, part, names(folder, read(folder, part)))
            if damage := next(verify_pass(part, REMEDY), None):
                raise StoreError(damage.text if REMEDY in damage.text else f"{damage.text}: {REMEDY}")
            try:
                move(part, entry / folder.name)
            except OSError:
                if not listed(entry / folder.name):  # others were faster
                    raise
    except StoreError as error:
        raise StoreError(str(error).replace(str(part), str(folder))) from None


@contextlib.contextmanager
def removed(part: Path) -> Iterator[None]:
    """Sees to it that a folder is gone after the block, moved or not."""
    try:
        yield
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read(folder: Path, part: Path) -> Mapping[str, Any]:
    """The manifest that has arrived, which must be that of the folder it came from."""
    manifest = read_pass(part, REMEDY).manifest
    name = pass_digest({kind: facts["requested"] for kind, facts in manifest["kinds"].items()})
    if name != folder.name:
        raise StoreError(f"{folder} holds the pass {name} by its manifest, expected it under that name: {REMEDY}")
    return manifest


def names(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The files of a pass, all of them right inside its folder."""
    found = [*manifest["files"], *(array_file(kind) for kind in manifest["kinds"])]
    for name in found:
        if name != os.path.basename(name) or name in ("", ".", "..", MANIFEST) or "\0" in name or "\\" in name:
            raise StoreError(f"the manifest of {folder} names the file {name!r}, expected one in its folder: {REMEDY}")
    return found


def copy_files(folder: Path, part: Path, files: Iterable[str]) -> None:
    """Copies regular files by content and makes them durable."""
    for name in files:
        try:
            source = open_regular(folder / name, follow_links=False)
        except InputError as error:
            raise StoreError(f"{str(error).rpartition(':')[0]}: {REMEDY}") from None
        except OSError as error:
            raise StoreError(f"{folder / name} cannot be read ({error.strerror}): {REMEDY}") from None
        with source, open(part / name, "xb") as target:
            shutil.copyfileobj(source, target, 2**20)
            target.flush()
            os.fsync(target.fileno())
