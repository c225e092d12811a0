"""An extraction under way: a folder through which any number of processes share it, and a later one goes on with it.

    .work-<pass>/plan.json            what is extracted, in which blocks
                 data/pooled.npy      full size from the start, written by row range
                 claims/<range>.<n>   who works on a range; n counts takeovers
                 writers/<id>.json    a sign of life, rewritten every few seconds; gone when the writer is
                 writers/<id>.journal one line per finished block, appended after its rows are on the disk

No locks. What is assumed of the file system: renaming is atomic, so is making a hard link (where there are none:
creating a file with O_EXCL), a file that was closed by its writer reads complete when it is opened afterwards, and so
is a folder listed (close-to-open consistency). Local disks and NFS 3 and later hold this, unless mounted with `nocto`.
Whether a name exists is another matter: a client answers from memory, so that is asked by listing the folder. A listing
may still lack what changed within one tick of the server's clock: whoever acts on it (a link, a rename) finds out. An
answer of the server may get lost; the client then asks again and is told that the thing is done already.

Nobody reads an array before it is finished: a client sends whole pages of what it has read, and would wipe out the rows
that another one wrote beside its own.

A writer is taken for dead when its process is gone (same host) or its sign of life has not changed for `STALE_SECONDS`
of the observer's own clock (any host; clocks need not agree). Should a writer that was taken for dead come back, it
computes what others computed too: time is lost, and its blocks are dropped, not journaled.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from probe.core.files import Stamp
from probe.features.extraction.plan import Block, Plan, read_plan
from probe.features.layout import (
    TRASH_PREFIX,
    WORK_PREFIX,
    gone,
    listed,
    move,
    pass_digest,
    sync_folder,
    write_json,
)

STALE_SECONDS = 120.0


class Work:
    """The folder of an extraction, as everyone sees it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.data = folder / "data"
        self.plan = read_plan(folder)
        self._stamp = Stamp.of(os.stat(folder / "plan.json"))
        self._journals: dict[str, int] = {}
        self._done: dict[int, Block] = {}
        self._signs: dict[str, tuple[bytes, float]] = {}

    @classmethod
    def open_or_create(cls, entry: Path, plan: Plan) -> Work:
        """The work folder of this plan's kinds; whoever comes first decides on the blocks."""
        folder = entry / f"{WORK_PREFIX}{pass_digest(plan.kinds)}"
        if not folder.exists():
            new = entry / f"{TRASH_PREFIX}{uuid.uuid4().hex}"
            for name in ("data", "claims", "writers"):
                (new / name).mkdir(parents=True, exist_ok=True)
            write_json(new / "plan.json", asdict(plan))
            try:
                move(new, folder)
                sync_folder(entry)
            except OSError as error:
                shutil.rmtree(new, ignore_errors=True)
                # Of another process, which may have finished and removed it by now.
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) and not folder.exists():
                    raise
        return cls(folder)

    def there(self) -> bool:
        """False once the extraction was finished or thrown away, though another one may stand in its place."""
        try:
            same = Stamp.of(os.stat(self.folder / "plan.json")) == self._stamp
        except OSError as error:
            if gone(error):
                return False
            raise
        return same and listed(self.folder) and listed(self.data)

    def done(self) -> dict[int, Block]:
        """The blocks that all journals hold together. A line that was cut off does not count."""
        for path in sorted((self.folder / "writers").glob("*.journal")):
            offset = self._journals.get(path.name, 0)
            with open(path, "rb") as file:
                file.seek(offset)
                text = file.read()
            complete = text.rfind(b"\n") + 1
            for line in text[:complete].splitlines():
                try:
                    block = Block(**json.loads(line))
                except (ValueError, TypeError):
                    continue
                self._done[block.block] = block
            self._journals[path.name] = offset + complete
        return self._done

    def complete(self) -> bool:
        """Whether every block is done."""
        return len(self.done()) == self.plan.n_blocks

    def live_writers(self) -> list[str]:
        """The writers that are at work now."""
        return [p.stem for p in (self.folder / "writers").glob("*.json") if self.lives(p.stem)]

    def lives(self, writer: str) -> bool:
        """Whether a writer still shows signs of life."""
        try:
            sign = (self.folder / "writers" / f"{writer}.json").read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            if gone(error):  # replaced by the next one while it was read
                return True
            raise
        try:
            facts = json.loads(sign)
        except ValueError:
            facts = {}
        if facts.get("host") == host_name() and process_sign(facts.get("pid", 0)) != facts.get("process"):
            return False
        return self._changed_lately(writer, sign)

    def _changed_lately(self, name: str, sign: bytes) -> bool:
        now = time.monotonic()
        before = self._signs.get(name)
        if before is None or before[0] != sign:
            self._signs[name] = (sign, now)
            return True
        return now - before[1] < STALE_SECONDS

    def claims(self) -> dict[str, int]:
        """Range -> how often it was taken over, for the ranges that were claimed."""
        latest: dict[str, int] = {}
        for name in os.listdir(self.folder / "claims"):
            number, _, takeovers = name.partition(".")
            latest[number] = max(latest.get(number, 0), int(takeovers))
        return latest

    def in_hands(self, number: str, takeovers: int) -> bool:
        """Whether the writer of a claim is at work. A claim that is still empty is given time to be filled in."""
        claim = f"{number}.{takeovers}"
        writer = (self.folder / "claims" / claim).read_text()
        return self.lives(writer) if writer else self._changed_lately(claim, b"")

    def discard(self) -> None:
        """Removes the folder; for those who still look, it is gone at once."""
        discard(self.folder)


def discard(folder: Path) -> None:
    """Removes a folder so that it is never seen half removed under its own name."""
    trash = folder.with_name(f"{TRASH_PREFIX}{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, trash)
    for _ in range(3):  # others may make a file there yet; what stays in the end is left to `sweep`
        shutil.rmtree(trash, ignore_errors=True)
        if not listed(trash):
            break


def works(entry: Path) -> Iterator[Work]:
    """The extractions of an entry that are under way or were interrupted."""
    for folder in sorted(entry.glob(f"{WORK_PREFIX}*")):
        try:
            yield Work(folder)
        except FileNotFoundError:  # finished by another process in this moment
            continue


def host_name() -> str:
    """Tells apart machines, boots of one machine, and containers that cannot see each other's processes."""
    parts = [socket.gethostname()]
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return "/".join(parts)


def process_sign(pid: int) -> str | None:
    """Something that a process keeps for life and that its number's next owner does not have; None when it is gone."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:
            pass
    return "alive"
