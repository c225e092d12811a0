"""Refuses features that are not finite, and says in which row."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from joblib import cpu_count

from probe.core.arrays import row_chunks
from probe.core.errors import InputError

# Numbers for a thread: fewer are read sooner than threads are started.
THREAD_ENTRIES = 2**22
# Bits of a float16 that NaN and infinity alone have all set.
EXPONENT = np.uint16(0x7C00)


def parts_of(X: Any, n: int) -> list[slice]:
    """Contiguous slices, n of about equal length, that cover the rows of X."""
    bounds = np.linspace(0, len(X), n + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(bounds)]


def refuse_non_finite(chunk: Any, first_row: int = 0, name: str = "X") -> None:
    """Raises an InputError that names the first row of a chunk that holds NaN or infinity."""
    if _is_finite(chunk):
        return
    wrong = np.flatnonzero(~np.isfinite(chunk.reshape(len(chunk), -1)).all(axis=1))
    if len(wrong):
        raise InputError(
            f"row {first_row + wrong[0]} of {name} holds NaN or inf, expected finite features: "
            "leave that row out, or extract its features again"
        )


def _is_finite(chunk: Any) -> bool:
    """Whether all numbers are, seen at their sum; at the bits of float16, which NumPy is slow to widen."""
    if chunk.dtype == np.float16:
        return bool((chunk.view(np.uint16) & EXPONENT).max(initial=0) < EXPONENT)
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(chunk.sum(dtype=np.float64)))


def check_finite(X: Any, name: str = "X") -> None:
    """The same for all rows of an array that may be larger than memory, chunk by chunk, in threads."""

    def look_through(part: slice) -> None:
        for rows in row_chunks(X, within=part):
            refuse_non_finite(X[rows], rows.start, name)

    n_threads = min(cpu_count(), int(np.prod(X.shape)) // THREAD_ENTRIES)
    if n_threads < 2:
        look_through(slice(0, len(X)))
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(look_through, parts_of(X, n_threads)))
