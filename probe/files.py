"""Digests of files by content, remembered so that a large dataset is read once."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import xxhash

from probe.hashing import hash_bytes

RACY_NS = 2 * 10**9
"""Files changed this shortly before they were read are not remembered: a second change might leave the same mtime."""


def cache_root() -> Path:
    """Where digests and features are kept: `PROBE_CACHE`, else the platform's cache folder."""
    return Path(os.environ.get("PROBE_CACHE") or platformdirs.user_cache_dir("probe")).expanduser()


def file_digests(root: Path, names: Sequence[str]) -> list[str]:
    """XXH3-128 of each file's content, in the order of `names`.

    Size, modification time in nanoseconds and inode are the shortcut: files where all three are as remembered are not
    read again. What is remembered lives in `<cache root>/digests`; where that cannot be written, every file is read.

    Args:
        root: Folder of the dataset.
        names: Files, relative to it.
    """
    memory_file = cache_root() / "digests" / f"{hash_bytes(os.fsencode(root.resolve()))}.json"
    memory = _remembered(memory_file)
    now = time.time_ns()

    def digest(name: str) -> tuple[list[int], str]:
        path = root / name
        stat = path.stat()
        key = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = memory.get(name)
        return key, known[1] if known and known[0] == key else _digest_file(path)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = dict(zip(names, pool.map(digest, names), strict=True))
    settled = {name: [key, value] for name, (key, value) in found.items() if key[1] < now - RACY_NS}
    if any(memory.get(name) != entry for name, entry in settled.items()):
        with contextlib.suppress(OSError):
            _remember(memory_file, memory | settled)
    return [found[name][1] for name in names]


def _digest_file(path: Path) -> str:
    hasher = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(2**20):
            hasher.update(block)
    return hasher.hexdigest()


def _remembered(memory_file: Path) -> dict[str, list]:
    try:
        content = json.loads(memory_file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(memory_file: Path, memory: dict[str, list]) -> None:
    memory_file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=memory_file.parent, delete=False) as file:
        json.dump(memory, file, separators=(",", ":"))
    os.replace(file.name, memory_file)
