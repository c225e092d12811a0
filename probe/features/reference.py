"""References to rows in the feature store, for files that shall not hold copies of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from probe.core.arrays import RowStack
from probe.core.base import IntArray
from probe.core.errors import StoreError
from probe.core.files import cache_root
from probe.core.lazy import Entries, RowSubset, Scaled
from probe.features.entry import CheckedMemmap, read_passes

Reference = Mapping[str, Any]


def reference_to(array: Any) -> Reference | None:
    """Which rows of the store an array is made of, and how, as JSON; None where some of it lies elsewhere."""
    if isinstance(array, RowStack):
        parts = [reference_to(part) for part in array.parts]
        return None if None in parts else {"stacked": parts}
    if isinstance(array, CheckedMemmap):
        return array.origin
    if isinstance(array, RowSubset):
        return _of(array.array, rows=_runs(array.indices))
    if isinstance(array, Scaled):
        return _of(array.array, mean=array.mean.tolist(), scale=array.scale.tolist())
    if type(array) is Entries and not isinstance(array.pick, np.ndarray):
        return _of(array.array, pick=array.pick)
    return None


def _of(array: Any, **facts: Any) -> Reference | None:
    inner = reference_to(array)
    return None if inner is None else {"of": inner, **facts}


def rows_behind(reference: Reference, remedy: str) -> Any:
    """The array that a reference stands for, read from the cache when rows are asked for.

    Args:
        reference: What `reference_to` said.
        remedy: What brings features back that are not there.

    Raises:
        StoreError: The cache does not hold them, or holds damaged ones.
    """
    if "stacked" in reference:
        return RowStack([rows_behind(part, remedy) for part in reference["stacked"]])
    if "entry" in reference:
        return _stored(reference, remedy)
    inner = rows_behind(reference["of"], remedy)
    if "rows" in reference:
        return RowSubset(inner, np.array([i for run in reference["rows"] for i in range(*run)], np.int64))
    if "mean" in reference:
        return Scaled(inner, np.array(reference["mean"]), np.array(reference["scale"]))
    return Entries(inner, reference["pick"])


def _stored(reference: Reference, remedy: str) -> CheckedMemmap:
    root, kind = cache_root(), reference["kind"]
    for one in read_passes(root / "features" / reference["entry"]):
        if one.manifest["kinds"].get(kind, {}).get("dtype") == reference["dtype"]:
            return one.array(kind)
    raise StoreError(
        f"the rows of this head are features ({kind}, {reference['dtype']}) of {reference['backbone']} on "
        f"{reference['rows_of']}, entry {reference['entry'][:12]}, which the cache {root} does not hold (pruned, or in "
        f"another cache): {remedy}, or set PROBE_CACHE to the cache that holds them"
    )


def _runs(rows: IntArray) -> list[list[int]]:
    """Row numbers as (first, stop) of those that follow each other."""
    if not len(rows):
        return []
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    stops = np.append(starts[1:], len(rows)) - 1
    return np.column_stack([rows[starts], rows[stops] + 1]).tolist()
