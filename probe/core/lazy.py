"""Arrays that are computed from another one when rows are asked for: look like arrays to the heads, copy nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core import int8
from probe.core.base import IntArray

CHUNK_VALUES = 2**22


class RowSubset:
    """Rows of an array in a given order, fetched only when asked for. Looks like an array to the heads.

    Heads slice it (`X[a:b]`) or index it with an integer array, and get a plain array of those rows.
    """

    def __init__(self, array: Any, indices: IntArray):
        self.array = array
        self.indices = np.asarray(indices, dtype=np.int64)
        self.dtype = array.dtype
        self.shape = (len(self.indices), *array.shape[1:])
        self.ndim = array.ndim
        self.ragged = getattr(array, "ragged", False)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        return self.array[self.indices[key]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.array[self.indices], dtype=dtype)


class Outputs:
    """(N, K) numbers that a head says of rows, computed for the rows that are asked for, each time.

    Args:
        function: Gives (n, K) for rows (n,).
        shape: (N, K).
        dtype: Of the numbers.
    """

    ndim = 2

    def __init__(self, function: Callable[[IntArray], NDArray[Any]], shape: tuple[int, int], dtype: Any = np.float32):
        self._function, self.shape, self.dtype = function, shape, np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        return self._function(np.arange(len(self))[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        step = max(1, CHUNK_VALUES // self.shape[1])
        found = np.empty(self.shape, dtype=dtype or self.dtype)
        for start in range(0, len(self), step):
            found[start : start + step] = self[start : start + step]
        return found


class Entries:
    """(N, E, ...) as (N, ...): of each row one of its E entries (attention heads, views), or their mean.

    Looks like an array to the heads, as `RowSubset` does; a row's other entries are not copied.

    Args:
        array: An array or memmap, or `Entries` of one.
        pick: The entry of all rows, (N,) one for each row, or None for the mean of all in float32.
    """

    def __init__(self, array: Any, pick: int | IntArray | None):
        self.array, self.pick = array, pick
        self.dtype = np.dtype(np.float32) if pick is None else array.dtype
        self.shape = (len(array), *array.shape[2:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        if self.pick is None:
            n = self.array.shape[1]
            total = np.zeros((), dtype=np.float32)
            for entry in range(n):
                total = total + _entry(self.array, key, entry)
            return (total / np.float32(n)).astype(np.float32)
        if isinstance(self.pick, int):
            return _entry(self.array, key, self.pick)
        rows = np.arange(len(self))[key]
        return _entry(self.array, rows, self.pick[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


class DrawnViews(Entries):
    """(N, V, ...) as (N, ...): the first of each row's views, and at an epoch of training one that is drawn.

    Args:
        array: An array or memmap.
        seed: Of the draws.
    """

    def __init__(self, array: Any, seed: int):
        super().__init__(array, 0)
        self.seed = seed

    def at(self, epoch: int) -> Entries:
        """The views of an epoch, the same whenever it is asked for."""
        random = np.random.default_rng([self.seed, epoch])
        return Entries(self.array, random.integers(self.array.shape[1], size=len(self)))


def all_views(array: Any) -> Any | None:
    """(N, V, D) of what shows one of each row's views, or their mean; None of an array without views."""
    if isinstance(array, DrawnViews) or (isinstance(array, Entries) and array.pick is None):
        return array.array
    views = all_views(array.array) if isinstance(array, RowSubset) else None
    return views if views is None else RowSubset(views, array.indices)


class Scaled:
    """(N, D) less a mean and over a scale, in float32, of float64 in float64; rows are computed when asked for.

    Looks like an array to the heads, as `RowSubset` does.

    Args:
        array: An array or memmap, or `Entries` of one.
        mean, scale: (D,) each.
    """

    def __init__(self, array: Any, mean: NDArray[Any], scale: NDArray[Any]):
        self.array, self.mean, self.scale = array, mean, scale
        self.dtype = np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
        self.shape, self.ndim = array.shape, array.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        # The difference in double: a mean may be large beside the spread.
        return ((self.array[key] - self.mean) / self.scale).astype(self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


class Beside:
    """(N, D) with (N, Q) further columns in memory on its right, in one dtype; rows are computed when asked for.

    Looks like an array to the heads, as `RowSubset` does.
    """

    def __init__(self, array: Any, columns: NDArray[Any], dtype: Any):
        self.array, self.columns, self.dtype = array, columns, np.dtype(dtype)
        self.shape, self.ndim = (len(array), array.shape[1] + columns.shape[1]), 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        left = self.array[key]
        found = np.empty((len(left), self.shape[1]), dtype=self.dtype)
        found[:, : left.shape[1]], found[:, left.shape[1] :] = left, self.columns[key]
        return found


class Unpacked:
    """Vectors of float32 that are stored as bytes, see `probe.core.int8`; unpacked when rows are asked for.

    Looks like an array to the heads, as `RowSubset` does.

    Args:
        array: An array or memmap of int8, (..., D + 4).
    """

    def __init__(self, array: Any):
        self.array = array
        self.dtype = np.dtype(np.float32)
        self.shape = (*array.shape[:-1], array.shape[-1] - int8.SCALE.itemsize)
        self.ndim = array.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return int8.unpack(self.array[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


class Cells:
    """Several (N, D) arrays as (N, G, D): of each row its G vectors, such as those of all layers.

    Looks like an array to the heads, as `RowSubset` does; `cell` gives one of the arrays again.

    Args:
        parts: By the name of the cell.
    """

    def __init__(self, parts: Mapping[str, Any]):
        self.names, self.parts = list(parts), list(parts.values())
        self.dtype = np.result_type(*(part.dtype for part in self.parts))
        self.shape = (len(self.parts[0]), len(self.parts), self.parts[0].shape[1])
        self.ndim = 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        return np.stack([part[key] for part in self.parts], axis=1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


class Layers:
    """Several (N, D_l) arrays, of layers that may differ in width, as what rows are selected from: `of` gives features.

    Args:
        parts: By the name of the layer.
    """

    ndim = 2

    def __init__(self, parts: Mapping[str, Any]):
        self.parts = dict(parts)
        self.dtype = np.result_type(*(part.dtype for part in self.parts.values()))
        self.shape = (len(next(iter(self.parts.values()))), sum(part.shape[1] for part in self.parts.values()))

    def __len__(self) -> int:
        return self.shape[0]

    def of(self, shares: Mapping[str, float]) -> Any:
        """The sum of some layers, each times its share; one layer alone with the share 1 as it is."""
        if list(shares.values()) == [1.0]:
            return self.parts[next(iter(shares))]
        return Mixed([self.parts[name] for name in shares], list(shares.values()))


class Mixed:
    """Several (N, D) arrays as one: their sum, each times a number; rows are computed when asked for.

    Looks like an array to the heads, as `RowSubset` does.
    """

    ndim = 2

    def __init__(self, parts: Sequence[Any], shares: Sequence[float]):
        self.parts, self.shares = list(parts), [float(share) for share in shares]
        self.dtype = np.result_type(np.float32, *(part.dtype for part in self.parts))
        self.shape = self.parts[0].shape

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        return self.sum(part[key] for part in self.parts)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def sum(self, rows: Iterable[NDArray[Any]]) -> NDArray[Any]:
        """That of some rows of every part."""
        total = np.zeros((), dtype=self.dtype)
        for share, part in zip(self.shares, rows, strict=True):
            total = total + self.dtype.type(share) * part.astype(self.dtype, copy=False)
        return total


def as_numbers(array: Any) -> Any:
    """An array of features as heads see it, however it is stored."""
    return Unpacked(array) if array.dtype == np.int8 else array


def _entry(array: Any, key: slice | IntArray, entry: int | IntArray) -> NDArray[Any]:
    """Rows of the entries of an array, also of one whose own entries are picked first."""
    if isinstance(array, Entries):
        rows = array[key]
        return rows[:, entry] if isinstance(entry, int) else rows[np.arange(len(rows)), entry]
    return array[key, entry]
