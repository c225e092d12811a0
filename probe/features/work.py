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
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from probe.errors import StoreError
from probe.features.layout import (
    SCHEMA,
    TRASH_PREFIX,
    WORK_PREFIX,
    gone,
    listed,
    move,
    pass_digest,
    sync_folder,
    write_json,
)

BEAT_SECONDS = 5.0
STALE_SECONDS = 120.0
LOOK_SECONDS = 30.0
MAX_RANGES = 1024
"""Four for each of 256 writers: the last ones of a large extraction then wait for a few seconds, not for minutes."""
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
FINISH = "finish"


@dataclass(frozen=True)
class Plan:
    """What all writers of one extraction agree on.

    Attributes:
        kinds: Kind -> requested dtype.
        block_rows: Rows per forward pass; block b is always rows b * block_rows onwards, so that whoever extracts it
            runs the same batch and gets the same bits.
        backbone: Its name, for `probe cache ls`.
        dataset: Dataset and partition, likewise.
    """

    n_rows: int
    block_rows: int
    kinds: Mapping[str, str]
    backbone: str
    dataset: str
    schema: int = SCHEMA

    @property
    def n_blocks(self) -> int:
        """Blocks of all rows."""
        return -(-self.n_rows // self.block_rows)

    @property
    def blocks_per_range(self) -> int:
        """Blocks that a writer claims at once."""
        return -(-self.n_blocks // MAX_RANGES)

    @property
    def n_ranges(self) -> int:
        """Ranges of all blocks."""
        return -(-self.n_blocks // self.blocks_per_range)

    def rows(self, block: int) -> range:
        """The rows of a block."""
        return range(block * self.block_rows, min((block + 1) * self.block_rows, self.n_rows))

    def blocks(self, number: int) -> range:
        """The blocks of a range."""
        size = self.blocks_per_range
        return range(number * size, min((number + 1) * size, self.n_blocks))


@dataclass(frozen=True)
class Block:
    """A finished block, as a line of a journal.

    Attributes:
        hashes: Kind -> XXH3-64 of its rows; empty where no row could be decoded, these are filled at the finish.
        invalid: Row -> why it could not be decoded.
        shapes: Kind -> shape of one row.
    """

    block: int
    hashes: Mapping[str, int]
    shapes: Mapping[str, list[int]] = field(default_factory=dict)
    invalid: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Work:
    """The folder of an extraction, as everyone sees it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.data = folder / "data"
        self.plan = read_plan(folder)
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
            except OSError:
                shutil.rmtree(new, ignore_errors=True)
                if not folder.exists():
                    raise
        return cls(folder)

    def there(self) -> bool:
        """False once the extraction was finished or thrown away."""
        return listed(self.folder) and listed(self.data)

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


class Writer:
    """One process's part in an extraction: claims ranges, shows signs of life, keeps a journal."""

    def __init__(self, work: Work):
        self.work = work
        self.id = uuid.uuid4().hex[:16]
        self._folder = work.folder / "writers"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, daemon=True)
        self._beats = 0
        self._mine: dict[str, int] = {}
        self._looked = time.monotonic()
        self._next: int | None = None

    def __enter__(self) -> Self:
        (self._folder / f"{self.id}.name").write_text(self.id)
        self._beat()
        return self

    def keep_beating(self) -> None:
        """Shows signs of life from now on. Not before worker processes are forked: a thread could hold a lock then."""
        if not self._thread.ident:
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.ident:
            self._thread.join()
        (self._folder / f"{self.id}.json").unlink(missing_ok=True)

    def _beat(self) -> None:
        self._beats += 1
        sign = {"host": host_name(), "pid": os.getpid(), "process": process_sign(os.getpid()), "beats": self._beats}
        part = self._folder / f"{self.id}.part"
        part.write_text(json.dumps(sign))
        move(part, self._folder / f"{self.id}.json")

    def _beat_on(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self._beat()
            except OSError:  # the folder is gone: someone finished; or the disk is full: others may take over
                continue

    def claim(self) -> list[int] | None:
        """Blocks that nobody else works on, of one range; None when every range is done or in other hands."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self.work.live_writers()  # so that it is known in the end how long a silent one has been silent
            self._looked = time.monotonic()
        plan, claims = self.work.plan, self._claims()
        if self._next is None:  # the first writer begins with the first row, others apart from it and from each other
            self._next = int(self.id, 16) % plan.n_ranges if claims else 0
        ranges = [(self._next + i) % plan.n_ranges for i in range(plan.n_ranges)]
        for number in ranges:
            if str(number) not in claims and self._take(str(number), None):
                self._next = number + 1
                return list(plan.blocks(number))
        # Only now the journals and signs of all others are worth reading: is any range in dead hands?
        done = self.work.done()
        for number in ranges:
            if all(block in done for block in plan.blocks(number)):
                continue
            if self._take(str(number), claims.get(str(number))):
                self._next = number + 1
                done = self.work.done()
                return [block for block in plan.blocks(number) if block not in done]
        return None

    def claim_finish(self) -> bool:
        """True for the one writer that is to finish the pass."""
        return self._take(FINISH, self._claims().get(FINISH))

    def _claims(self) -> dict[str, int]:
        """The claims that are listed, and those of this writer: a listing may be older than they are."""
        claims = self.work.claims()
        return claims | {n: max(mine, claims.get(n, 0)) for n, mine in self._mine.items()}

    def _take(self, number: str, claimed: int | None) -> bool:
        if claimed is not None and (self._mine.get(number) == claimed or self.work.in_hands(number, claimed)):
            return False
        takeovers = 0 if claimed is None else claimed + 1
        if self._place(self.work.folder / "claims" / f"{number}.{takeovers}"):
            self._mine[number] = takeovers
            return True
        return False

    def _place(self, claim: Path) -> bool:
        """Makes the file of a claim, with this writer's name in it from the first moment; False if it is there."""
        try:
            os.link(self._folder / f"{self.id}.name", claim)
        except FileExistsError:
            return claim.read_text() == self.id  # NFS may have lost its own answer
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            try:
                with open(claim, "x") as file:
                    file.write(self.id)
            except FileExistsError:
                return False
        return True

    def record(self, blocks: list[Block]) -> None:
        """Appends finished blocks, whose rows are on the disk already, to the journal."""
        size, claims = self.work.plan.blocks_per_range, self._claims()
        ranges = {block.block: str(block.block // size) for block in blocks}
        # Not those of ranges that another writer took over, because it took this one for dead.
        kept = [block for block in blocks if claims[n := ranges[block.block]] == self._mine[n]]
        lines = "".join(json.dumps(asdict(block)) + "\n" for block in kept)
        path = self._folder / f"{self.id}.journal"
        created = not path.exists()
        with open(path, "a") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        if created:
            sync_folder(self._folder)


def read_plan(folder: Path) -> Plan:
    """The plan of an extraction; refuses one that this version cannot go on with."""
    try:
        facts = json.loads((folder / "plan.json").read_bytes())
        if facts["schema"] <= SCHEMA:
            return Plan(**facts)
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{folder / 'plan.json'} is damaged or not of this cache: delete the folder {folder} and run again"
        ) from None
    raise StoreError(
        f"the extraction in {folder} was begun by a newer version of probe (schema {facts['schema']}, this one reads "
        f"{SCHEMA}): update probe, or set PROBE_CACHE to another folder"
    )


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
