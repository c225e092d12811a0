"""Digests of files by content, remembered so that a large dataset is read once."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import xxhash

from probe.core.hashing import hash_bytes

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

    keys = {name: _key(os.path.join(root, name)) for name in names}
    found = {name: memory[name][1] for name in keys if name in memory and memory[name][0] == keys[name]}
    unread = [name for name in keys if name not in found]
    # In chunks: a task per file would cost more than reading a small one.
    chunks = [unread[i : i + 256] for i in range(0, len(unread), 256)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for chunk, digests in zip(
            chunks, pool.map(lambda c: [_digest_file(root / name) for name in c], chunks), strict=True
        ):
            found.update(zip(chunk, digests, strict=True))
    settled = {name: [keys[name], found[name]] for name in unread if keys[name][1] < now - RACY_NS}
    if settled:
        with contextlib.suppress(OSError):
            _remember(memory_file, memory | settled)
    return [found[name] for name in names]


def remembered(what: str, files: Sequence[Path], compute: Callable[[], list[str]]) -> list[str]:
    """What follows from the contents of some files, computed again only where one of them has changed.

    The shortcut, and where it is kept, are those of `file_digests`.

    Args:
        what: Tells values apart that follow from the same files.
        files: All that the value depends on; of none, nothing is remembered.
        compute: Gives the value.
    """
    if not files:
        return compute()
    paths = [str(file.resolve()) for file in files]
    memory_file = cache_root() / "digests" / f"{hash_bytes(os.fsencode(json.dumps([what, paths])))}.json"
    now, keys = time.time_ns(), [_key(path) for path in paths]
    memory = _remembered(memory_file)
    if memory.get("keys") == keys:
        return memory["value"]
    value = compute()
    if all(key[1] < now - RACY_NS for key in keys):
        with contextlib.suppress(OSError):
            _remember(memory_file, {"keys": keys, "value": value})
    return value


def _key(path: str) -> list[int]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


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
    part = memory_file.with_name(f"{memory_file.name}.{uuid.uuid4().hex}")
    with part.open("w") as file:
        json.dump(memory, file, separators=(",", ":"))
    os.replace(part, memory_file)
