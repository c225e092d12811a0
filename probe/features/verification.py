"""Whether a finished pass is what was written: every file against its checksum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from probe.core.errors import StoreError
from probe.features.entry import read_pass


@dataclass(frozen=True)
class Damage:
    """A kind's rows first to last, or a whole file (kind and rows None)."""

    folder: Path
    text: str
    kind: str | None = None
    rows: tuple[int, int] | None = None


def verify_pass(folder: Path, remedy: str | None = None) -> Iterator[Damage]:
    """Yields everything that is damaged in a finished pass: files, and rows of kinds.

    Args:
        remedy: What the texts advise; by default, to delete the folder and run again.
    """
    try:
        found = read_pass(folder, remedy)
    except StoreError as error:
        yield Damage(folder, str(error))
        return
    for name in found.manifest["files"]:
        try:
            if name == "valid.npy":
                _ = found.valid
            else:
                found.read(name)
        except StoreError as error:
            yield Damage(folder, str(error))
    for kind in found.manifest["kinds"]:
        try:
            for first, last in found.guard(kind).mismatches():
                text = f"{kind} rows {first} to {last} in {folder} do not match their checksum"
                yield Damage(folder, text, kind, (first, last))
        except StoreError as error:
            yield Damage(folder, str(error), kind)
