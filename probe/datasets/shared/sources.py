"""What a folder holds beside the files that make a dataset: counted, so that nothing vanishes unsaid."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from probe.core.texts import one_spelling

PARTITION_WORDS = frozenset(("train", "training", "test", "testing", "validation", "val", "valid", "dev", "eval"))
"""Words by which people call partitions, in any place where they cannot be class names."""


def passed_over(names: Iterable[str], why: str) -> list[str]:
    """A phrase that counts file names by extension; none where there are no names."""
    counts = Counter(os.path.splitext(name)[1].lower() or "without extension" for name in names)
    if not counts:
        return []
    kinds = ", ".join(f"{n} {extension}" for extension, n in sorted(counts.items()))
    n = sum(counts.values())
    return [f"{n} file{'s' * (n > 1)} that {'are' if n > 1 else 'is'} {why} ({kinds})"]


def unused_files(folder: Path, used: Collection[Path], pattern: str, why: str) -> list[str]:
    """A phrase that names the files of a folder that are like those in use and are not read; hidden ones aside."""
    found = sorted(f.name for f in folder.glob(pattern) if f not in used and not f.name.startswith("."))
    if not found:
        return []
    return [
        f"{len(found)} file{'s' * (len(found) > 1)} {why} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
    ]


def holds(root: Path) -> str:
    """What a sentence says of a path at which something else was expected: `photos has a.jpg, b.jpg`."""
    if not root.is_dir():
        return f"{root} is a file of another kind" if root.exists() else f"there is no {root}"
    there = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    return f"{root} has {', '.join(there[:10]) or 'nothing'}{', ...' if len(there) > 10 else ''}"


def on_disk(root: Path, names: Iterable[str]) -> list[str]:
    """Names of files below a folder as the disk spells them: accents that one program composes another stores apart.

    A name that leads to no file in either spelling stays as it is.
    """
    listings: dict[Path, dict[str, str]] = {}

    def spelled(name: str) -> str:
        if name.isascii() or (root / name).exists():
            return name
        at = root
        for part in Path(name).parts:
            if not (at / part).exists():
                if at not in listings:
                    listings[at] = {one_spelling(e): e for e in os.listdir(at)} if at.is_dir() else {}
                part = listings[at].get(one_spelling(part), part)
            at /= part
        return at.relative_to(root).as_posix() if at.exists() else name

    return [spelled(name) for name in names]
