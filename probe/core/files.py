"""Files that are read: regular ones only, and digests of their contents, remembered so that each is read once.

A file counts as unchanged while its stamp is: device, inode, size, time of writing and time of the last change of any
kind (ctime), the last of which no program can set. Where an archive is unpacked over a folder, with equal sizes, set
dates and inodes given out again, the last one tells. What it cannot tell: a file that is written twice within one tick
of its file system's clock, which is why the stamps of young files are not kept; and that with a clock set back between,
or on a server whose clock is behind this one's. Windows has no ctime; there a file rewritten in place, with its size
and its date, passes for the old one.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import platformdirs
import xxhash

from probe.core.errors import InputError, StoreError
from probe.core.hashing import hash_bytes
from probe.core.writing import write_file

PACKAGE = Path(__file__).parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The package's own yamls: inside an installed package, beside it in a checkout."""
RACY_NS = 2 * 10**9
"""Files changed this shortly before they were read are not remembered: a second change might leave the same stamp."""
KINDS = {
    stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link",
}  # fmt: skip


class Stamp(NamedTuple):
    """What changes whenever a file does."""

    device: int
    inode: int
    size: int
    written_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """From what `stat` says."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def settled(self, now_ns: int) -> bool:
        """Whether a further change would show: neither time is so near to now that it could be given out again."""
        return max(self.written_ns, self.changed_ns) < now_ns - RACY_NS


def nearest_folder(folder: Path, remedy: str) -> Path:
    """The nearest folder that is there, of one that may have to be made for the cache.

    Args:
        folder: Where the cache is to stand.
        remedy: What the user sets for another one.

    Raises:
        StoreError: A file, or a link to nothing, stands in its place, or in that of a folder above it.
    """
    there = folder.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        what = "a file" if there.exists() else "a symbolic link to nothing"
        raise StoreError(f"{there} is {what}, and the cache is to stand there: set {remedy} or PROBE_CACHE")
    return there


def cache_root() -> Path:
    """Where digests and features are kept: `PROBE_CACHE`, else the platform's cache folder."""
    return Path(os.environ.get("PROBE_CACHE") or platformdirs.user_cache_dir("probe")).expanduser()


def require_regular(path: str | Path, *, follow_links: bool = True) -> os.stat_result:
    """What `stat` says of a file; anything that is no regular file, which might hang or act when opened, is refused."""
    status = os.stat(path, follow_symlinks=follow_links)
    _refuse_odd(path, status)
    return status


def open_regular(path: str | Path, *, follow_links: bool = True) -> BinaryIO:
    """Opens a regular file for reading; never waits for a writer, whatever the path has become meanwhile.

    Raises:
        InputError: It is a folder, a fifo, a socket or a device; or a symbolic link that is not to be followed.
        OSError: It cannot be opened.
    """
    require_regular(path, follow_links=follow_links)
    wanted = ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", *(() if follow_links else ("O_NOFOLLOW",)))
    handle = os.open(path, os.O_RDONLY | sum(getattr(os, name, 0) for name in wanted))
    file = os.fdopen(handle, "rb")
    try:
        _refuse_odd(path, os.fstat(handle))
    except InputError:
        file.close()
        raise
    return file


def _refuse_odd(path: str | Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise InputError(f"{path} is {kind}, expected a regular file: remove it, or put a file in its place")


def file_digests(root: Path, names: Sequence[str]) -> list[str]:
    """XXH3-128 of each file's content, in the order of `names`.

    Files whose stamp is as remembered are not read again. What is remembered lives in `<cache root>/digests`; where
    that cannot be written, every file is read.

    Args:
        root: Folder of the dataset.
        names: Files, relative to it.

    Raises:
        InputError: One of them is no regular file.
    """
    memory_file = cache_root() / "digests" / f"{hash_bytes(os.fsencode(root.resolve()))}.json"
    memory = _remembered(memory_file)
    now = time.time_ns()

    stamps = {name: Stamp.of(require_regular(os.path.join(root, name))) for name in names}
    found = {name: memory[name][1] for name in stamps if name in memory and memory[name][0] == list(stamps[name])}
    unread = [name for name in stamps if name not in found]
    # In chunks: a task per file would cost more than reading a small one.
    chunks = [unread[i : i + 256] for i in range(0, len(unread), 256)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for chunk, digests in zip(
            chunks, pool.map(lambda c: [_digest_file(root / name) for name in c], chunks), strict=True
        ):
            found.update(zip(chunk, digests, strict=True))
    settled = {name: [stamps[name], found[name]] for name in unread if stamps[name].settled(now)}
    if settled:
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
    now, stamps = time.time_ns(), [Stamp.of(require_regular(path)) for path in paths]
    memory = _remembered(memory_file)
    if memory.get("stamps") == [list(stamp) for stamp in stamps] and isinstance(memory.get("value"), list):
        return memory["value"]
    value = compute()
    if all(stamp.settled(now) for stamp in stamps):
        _remember(memory_file, {"stamps": stamps, "value": value})
    return value


def _digest_file(path: Path) -> str:
    hasher = xxhash.xxh3_128()
    with open_regular(path) as file:
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
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
        write_file(memory_file, json.dumps(memory, separators=(",", ":")))
