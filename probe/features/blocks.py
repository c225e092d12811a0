"""Blocks of rows and their checksums: what is verified, and once only."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from probe.core.errors import StoreError

if TYPE_CHECKING:
    from probe.features.entry import Pass


def block_hash(rows: Any) -> int:
    """XXH3-64 of a contiguous array."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(rows).data.cast("B") if rows.size else b"")


class Guard:
    """Remembers, once per process and file, which blocks of an array were verified.

    Args:
        plain: The array, of rows, or of the tokens of all rows.
        edges: Of an array of tokens, where each block begins in it, and the end of the last.
    """

    def __init__(
        self,
        plain: np.memmap[Any, Any],
        checksums: NDArray[np.uint64],
        block_rows: int,
        source: Pass,
        kind: str,
        edges: NDArray[np.int64] | None = None,
    ):
        self.plain, self.checksums, self.block_rows, self.source, self.kind = plain, checksums, block_rows, source, kind
        self.edges = edges
        self.pending = np.ones(len(checksums), dtype=np.bool_)
        self.done = False
        self.lock = threading.Lock()

    def verify_all(self) -> None:
        """Verifies every block that was not verified yet."""
        if not self.done:
            self.verify(np.arange(len(self.checksums)))

    def verify_rows(self, key: Any) -> None:
        """Verifies the blocks that an index along the first axis touches."""
        if self.done:
            return
        n = len(self.plain)
        if isinstance(key, slice):
            start, stop, step = key.indices(n)
            rows = range(start, stop, step)
            ends = self._block_of(np.sort([rows[0], rows[-1]])) if rows else None
            touched = None if ends is None else np.arange(ends[0], ends[1] + 1)
        elif isinstance(key, int | np.integer) and not isinstance(key, bool):
            touched = self._block_of(np.asarray([int(key) % n])) if -n <= key < n else None
        else:
            indices = np.asarray(key)
            if indices.ndim == 0 or indices.dtype.kind not in "iub":
                return self.verify_all()
            if indices.dtype.kind == "b":
                indices = np.flatnonzero(indices.reshape(len(indices), -1).any(axis=1))
            indices = indices.ravel() % n
            mask = np.zeros(len(self.checksums), dtype=np.bool_)
            mask[self._block_of(indices)] = True
            touched = np.flatnonzero(mask)
        if touched is not None:
            self.verify(touched)

    def _block_of(self, places: NDArray[Any]) -> NDArray[np.intp]:
        """The block of each place along the first axis."""
        if self.edges is None:
            return places // self.block_rows
        return np.searchsorted(self.edges, places, side="right") - 1

    def verify(self, blocks: NDArray[np.intp]) -> None:
        """Hashes blocks that were not hashed yet; raises `StoreError` at the first one that differs."""
        with self.lock:
            for block in blocks[self.pending[blocks]]:
                if not self.matches(int(block)):
                    first, last = self.rows_of(int(block))
                    raise StoreError(
                        f"{self.kind} rows {first} to {last} in {self.source.folder} do not match their checksum, the "
                        f"file was changed or damaged: {self.source.remedy()}"
                    )
                self.pending[block] = False
            self.done = not self.pending.any()

    def matches(self, block: int) -> bool:
        """Whether a block hashes to its checksum."""
        start, stop = block * self.block_rows, (block + 1) * self.block_rows
        if self.edges is not None:
            start, stop = self.edges[block : block + 2]
        return block_hash(self.plain[start:stop]) == int(self.checksums[block])

    def rows_of(self, block: int) -> tuple[int, int]:
        """First and last row of a block."""
        return block * self.block_rows, min((block + 1) * self.block_rows, self.source.n_rows) - 1

    def mismatches(self) -> Iterable[tuple[int, int]]:
        """First and last row of every block that does not match, whatever was verified before."""
        return (self.rows_of(block) for block in range(len(self.checksums)) if not self.matches(block))
