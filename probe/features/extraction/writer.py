"""One process's part in an extraction that others may share; `work.py` says by which files."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from probe.features.extraction.plan import Block
from probe.features.extraction.work import Work, host_name, process_sign
from probe.features.layout import move, sync_folder

BEAT_SECONDS = 5.0
LOOK_SECONDS = 30.0
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
FINISH = "finish"


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
        lines = "".join(block.line() for block in kept)
        path = self._folder / f"{self.id}.journal"
        created = not path.exists()
        with open(path, "a") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        if created:
            sync_folder(self._folder)
