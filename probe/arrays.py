"""Arrays that may be larger than memory: chunks of them, and selections of rows without a copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        for part, start in zip(self.parts, self.starts, strict=False):
            inside = (rows >= start) & (rows < start + len(part))
            if inside.any():
                out[inside] = part[rows[inside] - start]
        return out
