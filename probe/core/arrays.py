"""Arrays that may be larger than memory: chunks of them, and selections of rows without a copy."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core import int8
from probe.core.base import IntArray
from probe.core.errors import InputError, StoreError
from probe.core.lazy import Beside, Cells, DrawnViews, Entries, Mixed, RowSubset, Scaled, Unpacked

CHUNK_BYTES = 64 * 2**20


def at_epoch(array: Any, epoch: int) -> Any:
    """What training sees of an array in an epoch: of drawn views those of the epoch, else the array itself."""
    if isinstance(array, DrawnViews):
        return array.at(epoch)
    if isinstance(array, Entries):
        return Entries(at_epoch(array.array, epoch), array.pick)
    if isinstance(array, Scaled):
        return Scaled(at_epoch(array.array, epoch), array.mean, array.scale)
    if isinstance(array, RowSubset):
        return RowSubset(at_epoch(array.array, epoch), array.indices)
    if isinstance(array, RowStack):
        return RowStack([at_epoch(part, epoch) for part in array.parts])
    return array


def draws_views(array: Any) -> bool:
    """Whether training sees other rows of it in each epoch."""
    if isinstance(array, RowStack):
        return any(draws_views(part) for part in array.parts)
    return isinstance(array, DrawnViews) or (
        isinstance(array, Entries | RowSubset | Scaled) and draws_views(array.array)
    )


def row_chunks(X: Any, bytes_per_chunk: int = CHUNK_BYTES, within: slice | None = None) -> Iterator[slice]:
    """Yields slices that cover the rows of X in order, each about `bytes_per_chunk` once converted to float32.

    With `within` only the rows from its start to its stop.

    Pages of a memmap are handed back on the way, so that a pass keeps little of the file resident.
    """
    bytes_per_row = 4 * max(1, int(np.prod(X.shape[1:])))
    step = max(1, bytes_per_chunk // bytes_per_row)
    mapped, kept = list(_mappings(X)), 0
    first, stop = (0, len(X)) if within is None else (within.start, within.stop)
    for start in range(first, stop, step):
        yield slice(start, min(start + step, stop))
        kept += step * bytes_per_row
        if kept >= CHUNK_BYTES:
            kept = 0
            for mapping in mapped:
                mapping.madvise(mmap.MADV_DONTNEED)


def _mappings(array: Any) -> Iterator[mmap.mmap]:
    """The file mappings behind an array; none for copy-on-write ones, whose changes would be lost with the pages."""
    if isinstance(array, RowSubset | Entries | Scaled | Beside | Unpacked):
        yield from _mappings(array.array)
    elif isinstance(array, RowStack | Cells | Mixed):
        for part in array.parts:
            yield from _mappings(part)
    elif getattr(array, "ragged", False):
        yield from _mappings(getattr(array, "values", None))
    elif isinstance(array, np.memmap) and array.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        base: Any = array
        while base is not None and not isinstance(base, mmap.mmap):
            base = base.base
        if base is not None:
            yield base


class RowStack:
    """Arrays of equal width one below the other, without a copy. Looks like an array to whoever reads rows of it.

    Rows that differ in length are padded with zeros to the longest that is asked for.
    """

    def __init__(self, parts: Sequence[Any]):
        self.parts = tuple(parts)
        self.starts = np.cumsum([0] + [len(part) for part in parts])
        self.dtype = np.result_type(*(part.dtype for part in parts))
        self.ragged = any(getattr(part, "ragged", False) for part in parts)
        self.shape = (int(self.starts[-1]), *(max(axis) for axis in zip(*(p.shape[1:] for p in parts), strict=True)))
        self.ndim = parts[0].ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        rows = np.arange(len(self))[key]
        out = (np.zeros if self.ragged else np.empty)((len(rows), *self.shape[1:]), dtype=self.dtype)
        longest = 0
        for part, start, stop in zip(self.parts, self.starts, self.starts[1:], strict=False):
            inside = (rows >= start) & (rows < stop)
            if inside.any():
                some = read_rows(part, rows[inside] - start)
                out[(inside, slice(some.shape[1])) if self.ragged else inside] = some
                longest = max(longest, *some.shape[1:2]) if self.ragged else 0
        return out[:, :longest] if self.ragged else out


def rows_of(X: Any, indices: IntArray) -> Any:
    """Some rows of an array, or of each array of a mapping."""
    if isinstance(X, Mapping):
        return {kind: RowSubset(array, indices) for kind, array in X.items()}
    return RowSubset(X, indices)


def places_in(X: Any, base: Any) -> IntArray | None:
    """Which rows of `base` X is made of, in order; None where they are not known to be any."""
    if X is base:
        return np.arange(len(base))
    if isinstance(X, RowSubset):
        places = places_in(X.array, base)
        return None if places is None else places[X.indices]
    if isinstance(X, RowStack):
        parts = [places_in(part, base) for part in X.parts]
        return None if any(part is None for part in parts) else np.concatenate([p for p in parts if p is not None])
    if isinstance(base, RowStack):
        for part, start in zip(base.parts, base.starts, strict=False):
            places = places_in(X, part)
            if places is not None:
                return start + places
    return None


def cell_of(X: Any, cell: int) -> Any:
    """(N, D) of (N, G, D): one vector of each row, without a copy."""
    if isinstance(X, Cells):
        return X.parts[cell]
    if isinstance(X, RowSubset):
        return RowSubset(cell_of(X.array, cell), X.indices)
    if isinstance(X, RowStack):
        return RowStack([cell_of(part, cell) for part in X.parts])
    return Entries(X, cell)


def cell_names(X: Any) -> list[str]:
    """What the cells of (N, G, D) are called; numbers where nothing says it."""
    while isinstance(X, RowSubset | RowStack):
        X = X.array if isinstance(X, RowSubset) else X.parts[0]
    return list(X.names) if isinstance(X, Cells) else [str(cell) for cell in range(X.shape[1])]


class RowReader:
    """Rows of several arrays that describe the same samples: `reader[rows]` is a dict of copies in memory.

    Rows of a memmap are read from its file and not through the mapping: whatever pages a mapping has touched count as
    resident memory, and a kernel with large pages maps megabytes for a row of kilobytes. So an epoch in random order
    over a file larger than memory needs the memory of one batch.
    """

    def __init__(self, arrays: Mapping[str, Any]):
        self.arrays = dict(arrays)
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1:
            raise InputError(f"kinds of different lengths were given, {lengths}: give the same rows of each")
        self.shape = (next(iter(lengths.values())), sum(int(np.prod(a.shape[1:])) for a in self.arrays.values()))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> dict[str, NDArray[Any]]:
        rows = np.arange(len(self))[key]
        return {name: read_rows(array, rows) for name, array in self.arrays.items()}

    def subset(self, indices: IntArray) -> RowReader:
        """The same arrays, some of their rows."""
        return RowReader({name: RowSubset(array, indices) for name, array in self.arrays.items()})

    def at_epoch(self, epoch: int) -> RowReader:
        """What training sees in an epoch, see `at_epoch`."""
        return RowReader({name: at_epoch(array, epoch) for name, array in self.arrays.items()})

    def stacked(self, other: RowReader) -> RowReader:
        """The rows of this reader, then those of another with the same kinds."""
        return RowReader({name: RowStack([array, other.arrays[name]]) for name, array in self.arrays.items()})


def read_rows(array: Any, rows: IntArray) -> NDArray[Any]:
    """Rows of an array as a writable copy; those of a memmap come from its file.

    An array that checks its rows before their first use, as those of the store do, says so by a method `verify`.
    """
    if isinstance(array, RowSubset):
        return read_rows(array.array, array.indices[rows])
    if isinstance(array, Entries):
        pick = array.pick[rows] if isinstance(array.pick, np.ndarray) else array.pick
        return np.require(Entries(read_rows(array.array, rows), pick)[:], requirements=["C", "W"])
    if isinstance(array, Scaled):
        return Scaled(read_rows(array.array, rows), array.mean, array.scale)[:]
    if isinstance(array, Unpacked):
        return int8.unpack(read_rows(array.array, rows))
    if isinstance(array, Cells):
        return np.stack([read_rows(part, rows) for part in array.parts], axis=1)
    if isinstance(array, Mixed):
        return array.sum(read_rows(part, rows) for part in array.parts)
    if hasattr(array, "verify"):
        array.verify(rows)
    # Of a map that was opened for writing, some rows may be in memory alone.
    if isinstance(array, np.memmap) and array.mode == "r" and array.flags.c_contiguous and hasattr(os, "preadv"):
        root: Any = array
        while isinstance(root.base, np.memmap):
            root = root.base
        if root.filename is not None:
            with contextlib.suppress(FileNotFoundError):  # removed since: the map still holds its rows
                return _read_file(array, rows, root.filename, root.offset + array.ctypes.data - root.ctypes.data)
    return np.require(array[rows], requirements=["C", "W"])


def _read_file(array: Any, rows: IntArray, path: str, start: int) -> NDArray[Any]:
    """Rows of a file that holds those of `array` from byte `start` on; neighbouring rows in one call."""
    out = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
    row_bytes = array.itemsize * int(np.prod(array.shape[1:]))
    runs = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    file = os.open(path, os.O_RDONLY)
    try:
        for first, stop in itertools.pairwise([*runs, len(rows)]):
            in_bytes: Any = out[first:stop].reshape(-1).view(np.uint8)
            left, place = memoryview(in_bytes), start + int(rows[first]) * row_bytes
            while left:  # a call gives 2 GB at most, and some file systems less
                n_read = os.preadv(file, [left], place)
                if not n_read:
                    raise StoreError(f"{path} ends before row {rows[stop - 1]}: extract its features again")
                left, place = left[n_read:], place + n_read
    finally:
        os.close(file)
    return out
