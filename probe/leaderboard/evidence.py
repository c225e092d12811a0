"""What a prediction rests on, from a saved head and the features of its rows: neighbours, maps of attention, words."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
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
from probe.core.ragged import MASK, RaggedMask, lengths_of
from probe.features import layout
from probe.features.entry import CheckedMemmap, Pass, read_passes
from probe.features.store import find
from probe.heads.shared.abilities import DecidesEarly
from probe.heads.shared.token_rows import TokenRows, places_of
from probe.results.reader import checked_head

N_NEIGHBOURS = 5
N_CLASSES, N_WORDS = 5, 6
"""Of the words that speak for a row's classes."""
MAX_VALUES = 2**29
"""Of the rows that neighbours are looked for in: more would keep whoever writes the page waiting."""
OWN = re.compile(r"probe\.heads(\.\w+)+")


def evidence(folder: str, result: Mapping[str, Any], partition: str, rows: Sequence[int]) -> dict[str, Any] | None:
    """What the predictions of some test rows rest on; None for heads that do not say it.

    Returns:
        What one of `KINDS` gives; or `fault`, a sentence.
    """
    kind = _class_of(result)
    told = next((tell for ability, tell in KINDS.items() if hasattr(kind, ability)), None)
    if told is None:
        return None
    from probe.heads.shared.base import AnyHead

    try:
        head = AnyHead.load(checked_head(folder))  # of numbers, another class than the run names
        X = _features(result, head, partition, np.asarray(rows, np.int64))
        return told(head, X)
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
    """`neighbours`: for each row a list of (partition, row, share of the vote, class or number), the first of `k`."""
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
    """`attention`: of each row the mean of its `n_maps` maps, in 1e-4; `grid` is (height, width)."""
    maps = head.attention(X)
    n_maps = maps.shape[1]
    mean = maps.mean(axis=1)[:, head.n_prefix_tokens if head.prefix else 0 :]
    side = math.isqrt(mean.shape[1])
    grid = [side, side] if side * side == mean.shape[1] else [1, mean.shape[1]]
    return {"attention": np.rint(1e4 * mean).astype(int).tolist(), "grid": grid, "n_maps": n_maps}


def _words(head: Any, X: Any) -> dict[str, Any]:
    """`words`: for each row (class, [(word, what it adds), ...]) of the classes with the largest sums, and how many
    words it has; `ahead`: after how many the predicted class is first ahead, None where it never is.
    """
    if not any(getattr(head, "words_", ())):
        raise InputError("the backbone does not tell the words behind its ids")
    places, known = places_of(TokenRows(X)[:], head.vocabulary_)
    words = np.where(known, np.asarray(head.words_)[places], "")
    votes = head.explain(X)
    ends = np.cumsum(votes.lengths)[:-1]
    rows = zip(np.split(words, ends), np.split(votes.values, ends), strict=True)
    found = {"words": [[_spoken(head.classes_, *row), int(n)] for row, n in zip(rows, votes.lengths, strict=True)]}
    return found | ({"ahead": _ahead(head, X)} if isinstance(head, DecidesEarly) else {})


def _spoken(classes: NDArray[Any], words: NDArray[Any], votes: NDArray[np.float64]) -> list[Any]:
    names, which = np.unique(words, return_inverse=True)
    sums = np.zeros((len(names), votes.shape[1]))
    np.add.at(sums, which, votes)
    sums[names == ""] = 0
    told = []
    for k in np.argsort(-votes.sum(axis=0), kind="stable")[:N_CLASSES]:
        best = np.argsort(-sums[:, k], kind="stable")[:N_WORDS]
        told.append([classes[k].item(), [[str(names[i]), float(f"{sums[i, k]:.3g}")] for i in best if sums[i, k] > 0]])
    return told


def _ahead(head: Any, X: Any) -> list[int | None]:
    predicted = head.predict(X)
    found: list[int | None] = [None] * len(predicted)
    for target in np.unique(predicted):
        decided, read = head.decide_early(X, target)
        for row in np.flatnonzero(decided & (predicted == target)):
            found[row] = int(read[row])
    return found


KINDS: Mapping[str, Callable[[Any, Any], dict[str, Any]]] = {
    "neighbours": _neighbours, "attention": _attention, "explain": _words,
}  # fmt: skip
"""What a head may say of its predictions: the name of the method that gives it, and how the page is told."""


def _features(result: Mapping[str, Any], head: Any, partition: str, rows: IntArray) -> Any:
    """Some rows of what the head was scored on, from the cache, which is asked by the digest that the run recorded."""
    extraction = result.get("extraction", {})
    layers = extraction.get("layers", {}).get("of")  # of which the head knows those that it reads
    kinds = head.consumes
    read = layers or [extraction.get("reads", {}).get(kind, kind) for kind in kinds]
    taps = (result["config"].get("backbone") or {}).get("taps") or []
    told = {kind: extraction.get("dtypes", {}).get(kind) for kind in dict.fromkeys([*read, *taps])}
    found = _passes(layout.requested_dtypes(told), result["features"][partition])
    arrays = [_of_rows(as_numbers(found[kind].array(kind)), rows) for kind in read]
    given = dict(zip(layers or kinds, arrays, strict=True))
    lengths = next((n for array in arrays if (n := lengths_of(array)) is not None), None)
    if lengths is not None and head.takes_mask:
        given[MASK] = RaggedMask(lengths)
    return arrays[0] if len(given) == 1 and not layers else given


def _of_rows(array: Any, rows: IntArray) -> Any:
    return array[rows] if lengths_of(array) is None else RowSubset(array, rows)


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
