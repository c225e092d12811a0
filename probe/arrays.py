"""Arrays that may be larger than memory: chunks of them, and selections of rows without a copy."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.base import IntArray
from probe.errors import InputError

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


def row_chunks(X: Any, bytes_per_chunk: int = CHUNK_BYTES) -> Iterator[slice]:
    """Yields slices that cover the rows of X in order, each about `bytes_per_chunk` once converted to float32."""
    bytes_per_row = 4 * max(1, int(np.prod(X.shape[1:])))
    step = max(1, bytes_per_chunk // bytes_per_row)
    for start in range(0, len(X), step):
        yield slice(start, min(start + step, len(X)))


class RowStack:
    """Arrays of equal width one below the other, without a copy. Looks like an array to whoever reads rows of it."""

    def __init__(self, parts: Sequence[Any]):
        self.parts = tuple(parts)
        self.starts = np.cumsum([0] + [len(part) for part in parts])
        self.dtype = np.result_type(*(part.dtype for part in parts))
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])
        self.ndim = parts[0].ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        rows = np.arange(len(self))[key]
        out = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for part, start, stop in zip(self.parts, self.starts, self.starts[1:], strict=False):
            inside = (rows >= start) & (rows < stop)
            if inside.any():
                out[inside] = part[rows[inside] - start]
        return out


class RowReader:
    """Rows of several arrays that describe the same samples: `reader[rows]` is a dict of arrays in memory.

    Pages of a memmap that were read count as resident memory for as long as they stay mapped. They are handed back
    to the system every `MAPPED_BYTES` read, so that an epoch over an array larger than memory maps about that much;
    the file stays in the page cache where there is room for it.
    """

    MAPPED_BYTES = 64 * 2**20

    def __init__(self, arrays: Mapping[str, Any]):
        self.arrays = dict(arrays)
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1:
            raise InputError(f"kinds of different lengths were given, {lengths}: give the same rows of each")
        self.shape = (next(iter(lengths.values())), sum(int(np.prod(a.shape[1:])) for a in self.arrays.values()))
        self._mapped = list({id(m): m for array in self.arrays.values() for m in _mappings(array)}.values())
        self._bytes_read = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | IntArray) -> dict[str, NDArray[Any]]:
        batch = {name: np.require(array[rows], requirements=["C", "W"]) for name, array in self.arrays.items()}
        self._bytes_read += sum(array.nbytes for array in batch.values())
        if self._bytes_read > self.MAPPED_BYTES:
            self._bytes_read = 0
            for mapped in self._mapped:
                mapped.madvise(mmap.MADV_DONTNEED)
        return batch

    def subset(self, indices: IntArray) -> RowReader:
        """The same arrays, some of their rows."""
        return RowReader({name: RowSubset(array, indices) for name, array in self.arrays.items()})

    def stacked(self, other: RowReader) -> RowReader:
        """The rows of this reader, then those of another with the same kinds."""
        return RowReader({name: RowStack([array, other.arrays[name]]) for name, array in self.arrays.items()})


def _mappings(array: Any) -> Iterator[mmap.mmap]:
    """The file mappings behind an array; none for copy-on-write ones, whose changes would be lost with the pages."""
    if isinstance(array, RowSubset):
        yield from _mappings(array.array)
    elif isinstance(array, RowStack):
        for part in array.parts:
            yield from _mappings(part)
    elif isinstance(array, np.memmap) and array.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        base: Any = array
        while base is not None and not isinstance(base, mmap.mmap):
            base = base.base
        if base is not None:
            yield base
