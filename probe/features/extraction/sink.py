"""Features on their way to the disk: arrays that grow block by block, and the thread that writes them."""

from __future__ import annotations

import os
import queue
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import StoreError
from probe.core.ragged import Ragged
from probe.features.blocks import block_hash
from probe.features.extraction.forward import Arrays
from probe.features.extraction.plan import Block, Plan
from probe.features.extraction.writer import Writer
from probe.features.layout import HEADER_BYTES, array_file, npy_header, stored_dtype, sync_folder

SYNC_SECONDS = 1.0
"""Finished blocks become durable together, this often: a kill costs at most this much work and the blocks in flight."""


class ArrayFiles:
    """The arrays of an extraction under way, written block by block."""

    def __init__(self, folder: Path, plan: Plan):
        self.folder, self.plan = folder, plan
        self.files: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def dtype(self, kind: str, row_shape: Sequence[int]) -> np.dtype[Any]:
        """The dtype that a kind is stored in."""
        return np.dtype(stored_dtype(self.plan.kinds[kind], 1 + len(row_shape)))

    def bytes(self, kind: str, row_shape: Sequence[int]) -> int:
        """The size of the whole file of a kind."""
        return HEADER_BYTES + self.plan.n_rows * int(np.prod(row_shape)) * self.dtype(kind, row_shape).itemsize

    def check_room(self, row_shapes: Mapping[str, tuple[int, ...]], ragged_bytes: float = 0.0) -> None:
        """Refuses to begin what the disk cannot hold. It may still fill up later; then what is finished is kept.

        Args:
            row_shapes: Of the kinds of which all rows have one shape.
            ragged_bytes: What is still to be written of others, as far as the first rows tell.
        """
        new = [kind for kind in row_shapes if not (self.folder / array_file(kind)).exists()]
        needed = sum(self.bytes(kind, row_shapes[kind]) for kind in new) + ragged_bytes
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise StoreError(
                f"features of {self.plan.n_rows} rows need {needed / 2**20:.1f} MiB and the cache has "
                f"{free / 2**20:.1f} MiB free: make room (`probe cache prune --older-than 30d`), "
                f"set PROBE_CACHE to another disk{self._smaller(new, row_shapes)}"
            )

    def _smaller(self, kinds: Sequence[str], row_shapes: Mapping[str, tuple[int, ...]]) -> str:
        """What else makes room: half the bytes for what is stored as float32 and has a setting by its name."""
        wide = [kind for kind in kinds if kind.isidentifier() and self.dtype(kind, row_shapes[kind]) == np.float32]
        return f", or set {' '.join(f'features.dtypes.{kind}=float16' for kind in wide)}" if wide else ""

    def open(self, kind: str, row_shape: tuple[int, ...]) -> None:
        """Opens the file of a kind at its full size. All writers do the same, so that none has to be the first."""
        path = self.folder / array_file(kind)
        shape, dtype = (self.plan.n_rows, *row_shape), self.dtype(kind, row_shape)
        n_bytes = self.bytes(kind, row_shape)
        # For writing only, and never read before all is written: an NFS client sends the bytes that it was given. Of a
        # page that it has read, it sends the whole, and wipes out what other hosts wrote around them.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        self.files[kind] = file = open(handle, "wb", buffering=0)  # noqa: SIM115
        if os.fstat(handle).st_size not in (0, n_bytes):
            raise StoreError(
                f"{path} was begun with another shape than the {shape} of {dtype.name} that this backbone gives: "
                f"delete the folder {self.folder.parent} and run again"
            )
        file.truncate(n_bytes)
        file.write(npy_header(dtype.name, shape))
        os.fsync(handle)
        sync_folder(self.folder)
        self.shapes[kind] = row_shape

    def write(self, kind: str, first_row: int, rows: NDArray[Any]) -> None:
        """Writes the rows of one block."""
        if kind not in self.files:
            self.open(kind, rows.shape[1:])
        write_at(self.files[kind], HEADER_BYTES + first_row * rows[0].nbytes, rows)

    def sync(self) -> None:
        """Returns when all that was written is on the disk."""
        for file in self.files.values():
            getattr(os, "fdatasync", os.fsync)(file.fileno())

    def close(self) -> None:
        """Closes the files."""
        for file in self.files.values():
            file.close()


def write_at(file: Any, offset: int, rows: NDArray[Any]) -> None:
    """Writes all bytes of an array at a place in an unbuffered file."""
    data = rows.data.cast("B")
    file.seek(offset)
    while data:
        data = data[file.write(data) :]


class SegmentFiles:
    """The blocks of one writer of kinds of which rows differ in length, one after the other; see `segments`."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        self.files: dict[str, Any] = {}
        self.ends: dict[str, int] = {}

    def append(self, kind: str, tokens: NDArray[Any]) -> tuple[str, int]:
        """Writes the tokens of one block; its file and where they begin in it."""
        name = f"{self.name}.{quote(kind, safe='')}.segment"
        if kind not in self.files:
            # Behind what the writer wrote before it waited for others, if it did.
            self.files[kind] = file = open(self.folder / name, "ab", buffering=0)  # noqa: SIM115
            self.ends[kind] = file.tell()
            sync_folder(self.folder)
        start = self.ends[kind]
        write_at(self.files[kind], start, tokens)
        self.ends[kind] = start + tokens.nbytes
        return name, start

    def sync(self) -> None:
        """Returns when all that was written is on the disk."""
        for file in self.files.values():
            getattr(os, "fdatasync", os.fsync)(file.fileno())

    def close(self) -> None:
        """Closes the files."""
        for file in self.files.values():
            file.close()


def written_bytes(folder: Path) -> int:
    """What all writers have put into segments so far."""
    return sum(path.stat().st_size for path in folder.glob("*.segment"))


class Sink:
    """Writes blocks in the background, in the order: rows, disk, journal."""

    def __init__(self, writer: Writer):
        self.writer, self.plan = writer, writer.work.plan
        self.files = ArrayFiles(writer.work.data, self.plan)
        self.segments = SegmentFiles(writer.work.folder / "writers", writer.id)
        self._queue: queue.Queue[tuple[int, Arrays, Mapping[int, str], float] | None] = queue.Queue(maxsize=4)
        self._error: BaseException | None = None
        self._has_room = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def put(self, number: int, arrays: Arrays, failed: Mapping[int, str], seconds: float) -> None:
        """Hands over a block; waits while four are underway, raises what went wrong with an earlier one."""
        if self._error is not None:
            raise self._error
        self._queue.put((number, arrays, failed, seconds))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._queue.put(None)
        self._thread.join()
        self.files.close()
        self.segments.close()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        written: list[Block] = []
        synced = time.monotonic()
        while (item := self._queue.get()) is not None:
            if self._error is not None:
                continue
            try:
                written.append(self._write(*item))
                if time.monotonic() - synced >= SYNC_SECONDS:
                    self._sync(written)
                    synced = time.monotonic()
            except BaseException as error:
                self._error = error
        if self._error is None:
            try:
                self._sync(written)
            except BaseException as error:
                self._error = error

    def _write(self, number: int, arrays: Arrays, failed: Mapping[int, str], seconds: float) -> Block:
        even = {kind: rows for kind, rows in arrays.items() if not isinstance(rows, Ragged)}
        ragged = {kind: rows for kind, rows in arrays.items() if isinstance(rows, Ragged)}
        flat = {kind: ragged[kind].values if kind in ragged else even[kind] for kind in arrays}
        if arrays and not self._has_room:
            self._has_room = True
            per_row = sum(rows.values.nbytes for rows in ragged.values()) / max(1, len(next(iter(arrays.values()))))
            # Segments, and the arrays that they become before they go.
            left = max(0.0, 2 * self.plan.n_rows * per_row - written_bytes(self.segments.folder))
            self.files.check_room({kind: rows.shape[1:] for kind, rows in even.items()}, left)
        for kind, rows in even.items():
            self.files.write(kind, self.plan.rows(number)[0], rows)
        return Block(
            number,
            hashes={kind: block_hash(rows) for kind, rows in flat.items()},
            shapes={kind: list(rows.shape[1:]) for kind, rows in flat.items()},
            invalid={str(row): reason for row, reason in failed.items()},
            seconds=seconds,
            lengths={kind: rows.lengths.tolist() for kind, rows in ragged.items()},
            places={kind: self.segments.append(kind, rows.values) for kind, rows in ragged.items()},
        )

    def _sync(self, written: list[Block]) -> None:
        if written:
            self.files.sync()
            self.segments.sync()
            self.writer.record(written)
            written.clear()
