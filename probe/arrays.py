"""Arrays that may be larger than memory: chunks of them, and selections of rows without a copy."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.base import IntArray

CHUNK_BYTES = 64 * 2**20


class RowSubset:
    """Rows of an array in a given order, fetched only when asked for. Looks like an array to the heads.

    Heads slice it (`X[a:b]`) or index it with an integer array, and get a plain array of those rows.
    """

    def __init__(self, array: NDArray[Any], indices: IntArray):
        self.array = array
        self.indices = np.asarray(indices, dtype=np.int64)
        self.dtype = array.dtype
        self.shape = (len(self.indices), *array.shape[1:])
        self.ndim = array.ndim

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        return self.array[self.indices[key]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.array[self.indices], dtype=dtype)


def forget(X: Any) -> None:
    """Tells the system that the mapped pages read so far may leave memory; the numbers stay, on disk.

    Without it a pass over a memmap counts the whole file as resident memory as long as nothing else wants it.
    """
    array = X.array if isinstance(X, RowSubset) else X
    # Only where nothing can have been written: dropping a page of a copy-on-write map would drop what was written.
    if isinstance(array, np.memmap) and array.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
        array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def row_chunks(X: Any, bytes_per_chunk: int = CHUNK_BYTES) -> Iterator[slice]:
    """Yields slices that cover the rows of X in order, each about `bytes_per_chunk` once converted to float32.

    Pages of a memmap that were read go out of memory on the way, see `forget`.
    """
    bytes_per_row = 4 * max(1, int(np.prod(X.shape[1:])))
    step = max(1, bytes_per_chunk // bytes_per_row)
    kept = 0
    for start in range(0, len(X), step):
        yield slice(start, min(start + step, len(X)))
        kept += step * bytes_per_row
        if kept >= CHUNK_BYTES:
            forget(X)
            kept = 0
