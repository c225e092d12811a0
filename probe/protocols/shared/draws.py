"""Random orders of rows that are the same on every machine and with every version of every library.

numpy promises the raw integers of `Philox` for good (its compatibility guarantee), but not what `Generator` methods
make of them; scikit-learn's splitters promise neither. So the raw integers are sorted, and nothing else is used.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray


def priorities(n: int, fingerprint: str, seed: int, purpose: str) -> NDArray[np.uint64]:
    """n independent 64-bit integers, uniform, fixed by the three words alone.

    Args:
        n: How many.
        fingerprint: Of the dataset that rows are drawn from.
        seed: Of the run.
        purpose: Separates draws that must not be correlated, such as the training rows and their validation part.
    """
    key = hashlib.sha256(f"{fingerprint}|{int(seed)}|{purpose}".encode()).digest()
    return np.random.Philox(key=int.from_bytes(key[:16], "little")).random_raw(n)


def ranks_in_class(labels: IntArray, priority: NDArray[np.uint64]) -> IntArray:
    """Rank of each row among the rows of its class, 0 first, (N,).

    The k rows of lowest rank of every class are a stratified draw without replacement, and draws of different sizes
    from the same priorities are nested.
    """
    order = order_by_class(labels, priority)
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    return ranks


def first_of_each(shown: NDArray[np.bool_], priority: NDArray[np.uint64], k: int) -> IntArray:
    """Rows, ascending, that are among the first k of those that show some class, by one order of all rows.

    Those of a smaller k are among them, and the order of the classes does not matter.

    Args:
        shown: (N, K) which classes each row shows.
        priority: (N,) by which rows are ordered.
        k: Rows per class, no more than any class has.
    """
    order = np.argsort(priority, kind="stable")
    in_order = shown[order]
    return np.sort(order[(in_order & (in_order.cumsum(axis=0) <= k)).any(axis=1)])


def order_by_class(labels: IntArray, priority: NDArray[np.uint64]) -> IntArray:
    """Row numbers, class after class, at random within each class, (N,).

    Label, leading bits of the priority and row number are packed into one integer: all are different, so that every
    sorting algorithm gives the same order, and sorting values is several times faster than sorting row numbers.
    """
    n_classes = int(labels.max()) + 1 if len(labels) else 1
    row_bits = max(1, (len(labels) - 1).bit_length())
    random_bits = 64 - row_bits - max(1, (n_classes - 1).bit_length())
    keys = labels.astype(np.uint64) << np.uint64(random_bits) | priority >> np.uint64(64 - random_bits)
    keys = keys << np.uint64(row_bits) | np.arange(len(labels), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(2**row_bits - 1)).astype(np.int64)


def spread(counts: IntArray, fraction: float) -> IntArray:
    """Whole numbers close to `fraction * counts` (each within 1) that add up to the rounded total, (K,)."""
    edges = np.floor(np.concatenate([[0], np.cumsum(counts)]) * fraction + 0.5).astype(np.int64)
    return np.diff(edges)
