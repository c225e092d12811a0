"""Rows that differ in length: all their tokens one after the other, and where each row begins; nothing is padded.

Heads read them in batches, (n, T, ...) with T of the longest row in the batch and zeros behind the others, beside their
mask. M tokens of N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from probe.core.arrays import RowStack, RowSubset, read_rows
from probe.core.base import IntArray

MASK = "mask"
"""The name beside the kinds under which heads get the mask of tokens."""


@dataclass(frozen=True)
class Ragged:
    """A batch of rows that differ in length, as a backbone gives it and the store writes it.

    Attributes:
        values: (M, ...) the tokens of all rows, one row after the other; a tensor or an array.
        lengths: (N,) tokens of each row; a tensor on the CPU or an array.
    """

    values: Any
    lengths: Any

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the rows padded to the longest."""
        return (len(self), int(max(self.lengths, default=0)), *self.values.shape[1:])


def as_given(features: Any) -> Any:
    """What a backbone gives of one kind: numbers in float32, ids as they are."""
    if isinstance(features, Ragged):
        return Ragged(as_given(features.values), features.lengths)
    return (features.float() if features.is_floating_point() else features).contiguous()


@runtime_checkable
class Uneven(Protocol):
    """A backbone with kinds of which rows differ in length: `extract` gives a `Ragged` of each."""

    @property
    def ragged(self) -> Sequence[str]:
        """These kinds."""
        ...


class RaggedRows:
    """(N, T, ...) with T of the longest row, read and padded when rows are asked for. Looks like an array to the heads.

    Args:
        values: (M, ...) the tokens of all rows; an array or memmap.
        offsets: (N + 1,) where each row begins in these, and the end of the last.
    """

    ragged: ClassVar[bool] = True

    def __init__(self, values: Any, offsets: IntArray):
        self.values, self.offsets = values, offsets
        self.lengths = np.diff(offsets)
        self.dtype = values.dtype
        self.shape = (len(self.lengths), int(self.lengths.max(initial=0)), *values.shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows = np.arange(len(self))[key]
        found = self.tokens(np.atleast_1d(rows))
        mask = mask_of(found.lengths)
        out = np.zeros((*mask.shape, *self.shape[2:]), dtype=self.dtype)
        out[mask] = found.values
        return out if np.ndim(rows) else out[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def tokens(self, rows: IntArray) -> Ragged:
        """The tokens of some rows as a copy, without any padding."""
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self.offsets[rows] - (ends - lengths), lengths)
        return Ragged(read_rows(self.values, places), lengths)


class RaggedMask:
    """(N, T) booleans, True where a row has a token; as wide as the longest row that is asked for.

    Args:
        lengths: (N,) tokens of each row.
    """

    ragged: ClassVar[bool] = True
    dtype = np.dtype(np.bool_)
    ndim = 2

    def __init__(self, lengths: IntArray):
        self.lengths, self.shape = lengths, (len(lengths), int(lengths.max(initial=0)))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.bool_]:
        rows = np.arange(len(self))[key]
        found = mask_of(self.lengths[np.atleast_1d(rows)])
        return found if np.ndim(rows) else found[0]


class MeanTokens:
    """(N, D) mean over the tokens of each row in float32, computed when rows are asked for.

    Args:
        array: (N, T, D), also of rows that differ in length.
        n_prefix_tokens: How many first tokens are left out; of rows that differ in length none.
    """

    def __init__(self, array: Any, n_prefix_tokens: int = 0):
        self.array, self.n_prefix_tokens = array, n_prefix_tokens
        self.dtype, self.shape, self.ndim = np.dtype(np.float32), (len(array), array.shape[-1]), 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        rows = np.atleast_1d(np.arange(len(self))[key])
        if isinstance(self.array, RaggedRows):
            found = self.array.tokens(rows)
            # A row that could not be decoded has no token: NaN, as it is elsewhere.
            out = np.full((len(rows), self.shape[1]), np.nan, dtype=np.float32)
            there = found.lengths > 0
            starts = (np.cumsum(found.lengths) - found.lengths)[there]
            if len(starts):
                sums = np.add.reduceat(found.values.astype(np.float32, copy=False), starts, axis=0)
                out[there] = sums / found.lengths[there, None]
            return out
        return np.asarray(self.array[rows])[:, self.n_prefix_tokens :].mean(axis=1, dtype=np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


def mask_of(lengths: IntArray) -> NDArray[np.bool_]:
    """(n, T) True at the first places of each row, as many as it is long."""
    return np.arange(lengths.max(initial=0))[None] < lengths[:, None]


def lengths_of(array: Any) -> IntArray | None:
    """(N,) tokens of each row of an array of rows that differ in length; None of any other array."""
    if isinstance(array, RowSubset):
        inner = lengths_of(array.array)
        return None if inner is None else inner[array.indices]
    if isinstance(array, RowStack):
        parts = [lengths_of(part) for part in array.parts]
        return None if any(part is None for part in parts) else np.concatenate([p for p in parts if p is not None])
    found: IntArray | None = array.lengths if isinstance(array, RaggedRows | RaggedMask) else None
    return found


def longest_row(array: Any) -> int:
    """The number of a row that no other is longer than."""
    lengths = lengths_of(array)
    return 0 if lengths is None else int(lengths.argmax())


def tokens_of(array: Any, rows: IntArray) -> Ragged:
    """The tokens of some rows of `RaggedRows`, or of a selection of these, without padding; of an array all of them."""
    if isinstance(array, RowSubset):
        return tokens_of(array.array, array.indices[rows])
    if isinstance(array, RaggedRows):
        return array.tokens(rows)
    values = np.asarray(array[rows])
    return Ragged(values.reshape(-1, *values.shape[2:]), np.full(len(rows), values.shape[1]))
