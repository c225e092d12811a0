"""What a prediction rests on, from a saved head and the features of its rows: neighbours, and maps of attention."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.arrays import RowStack
from probe.core.base import IntArray, digest
from probe.core.errors import InputError, ProbeError
from probe.core.escaping import one_line
from probe.core.files import cache_root
from probe.core.lazy import Entries, RowSubset, Scaled, as_numbers
from probe.features import layout
from probe.features.entry import CheckedMemmap, Pass, read_passes
from probe.features.store import find
from probe.results.reader import checked_head

N_NEIGHBOURS = 5
MAX_VALUES = 2**29
"""Of the rows that neighbours are looked for in: more would keep whoever writes the page waiting."""
OWN = re.compile(r"probe\.heads(\.\w+)+")


def evidence(folder: str, result: Mapping[str, Any], partition: str, rows: Sequence[int]) -> dict[str, Any] | None:
    """What the predictions of some test rows rest on; None for heads that do not say it.

    Returns:
        `neighbours`: for each row a list of (partition, row, share of the vote, class or number); `attention`: for
        each row the mean of its maps, in hundredths of a per cent, and `grid` their height and width; or `fault`, a
        sentence.
    """
    kind = _class_of(result)
    if not (hasattr(kind, "neighbours") or hasattr(kind, "attention")):
        return None
    from probe.heads.shared.base import AnyHead

    try:
        head = AnyHead.load(checked_head(folder))  # of numbers, another class than the run names
        X = _features(result, head.consumes, partition, np.asarray(rows, np.int64))
        return _neighbours(head, X) if hasattr(head, "neighbours") else _attention(head, X)
    except (ProbeError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return {"fault": one_line(error if isinstance(error, ProbeError) else repr(error))}


def _class_of(result: Mapping[str, Any]) -> Any:
    """The class of the head where it is one of this package: a record imports no other code."""
    module, _, name = str(result["head"].get("class", "")).partition(":")
    file = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
    if not OWN.fullmatch(module) or not file.is_file():
        return None
    return getattr(importlib.import_module(module), name, None)


def _neighbours(head: Any, X: Any) -> dict[str, Any]:
    if math.prod(head.rows_.shape) > MAX_VALUES:
        raise InputError(f"{len(head.rows_)} rows of {head.rows_.shape[1]} features are too many to be looked through")
    partitions, numbers = origins(head.rows_)
    found, weights = head.neighbours(X)
    labels = _labels(head)
    return {
        "neighbours": [
            [
                [str(partitions[i]), int(numbers[i]), round(float(w), 4), None if labels is None else labels[i].item()]
                for i, w in zip(of_row[:N_NEIGHBOURS], shares, strict=False)
            ]
            for of_row, shares in zip(found, weights, strict=True)
        ],
        "k": int(found.shape[1]),
    }


def _labels(head: Any) -> Any:
    """Class codes of the rows that a head keeps, or the first of their numbers; None of rows with several labels."""
    if hasattr(head, "values_"):
        return head.values_[:, 0]
    return head.classes_[head.codes_] if head.codes_.ndim == 1 else None


def origins(array: Any) -> tuple[NDArray[Any], IntArray]:
    """Of rows that a head refers to, the partition of each and its number there.

    Raises:
        InputError: They are no rows of the feature store.
    """
    if isinstance(array, RowStack):
        names, numbers = zip(*map(origins, array.parts), strict=True)
        return np.concatenate(names), np.concatenate(numbers)
    if isinstance(array, RowSubset):
        names_of, numbers_of = origins(array.array)
        return names_of[array.indices], numbers_of[array.indices]
    if isinstance(array, Scaled | Entries):
        return origins(array.array)
    if isinstance(array, CheckedMemmap) and array.origin is not None:
        return np.full(len(array), array.origin["rows_of"].rpartition("/")[2]), np.arange(len(array))
    raise InputError("this head holds copies of its rows, which do not say where they come from")


def _attention(head: Any, X: Any) -> dict[str, Any]:
    maps = head.attention(X)
    n_maps = maps.shape[1]
    mean = maps.mean(axis=1)[:, head.n_prefix_tokens if head.prefix else 0 :]
    side = math.isqrt(mean.shape[1])
    grid = [side, side] if side * side == mean.shape[1] else [1, mean.shape[1]]
    return {"attention": np.rint(1e4 * mean).astype(int).tolist(), "grid": grid, "n_maps": n_maps}


def _features(result: Mapping[str, Any], kinds: Sequence[str], partition: str, rows: IntArray) -> Any:
    """Some rows of what the head was scored on, from the cache, which is asked by the digest that the run recorded."""
    extraction = result.get("extraction", {})
    layers = extraction.get("layers", {}).get("of")  # of which the head knows those that it reads
    read = layers or [extraction.get("reads", {}).get(kind, kind) for kind in kinds]
    taps = (result["config"].get("backbone") or {}).get("taps") or []
    told = {kind: extraction.get("dtypes", {}).get(kind) for kind in dict.fromkeys([*read, *taps])}
    found = _passes(layout.requested_dtypes(told), result["features"][partition])
    arrays = [as_numbers(found[kind].array(kind))[rows] for kind in read]
    return arrays[0] if len(read) == 1 and not layers else dict(zip(layers or kinds, arrays, strict=True))


def _passes(requested: Mapping[str, str], wanted: str) -> dict[str, Pass]:
    root = cache_root() / "features"
    for entry in sorted(root.iterdir()) if root.is_dir() else ():
        found = find(read_passes(entry), requested)
        if set(found) == set(requested):
            dtypes = {kind: one.manifest["kinds"][kind]["dtype"] for kind, one in found.items()}
            skipped = sorted({int(row) for one in found.values() for row in one.manifest["skipped"]})
            identity = next(iter(found.values())).manifest["identity"]
            if digest([identity, dtypes, skipped]) == wanted:
                return found
    raise InputError(
        f"the cache {cache_root()} does not hold the features of its test rows: run it again with force=true, or set "
        "PROBE_CACHE to the cache that holds them"
    )
