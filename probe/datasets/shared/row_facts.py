"""What a partition may know of each row beside its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.base import IntArray, Partition
from probe.core.errors import InputError
from probe.core.words import counted

FACTS = ("groups", "sessions", "hardness")
"""Groups (patients, scenes, frames of a film) are never divided by a protocol; sessions come one after the other in
`domain_incremental`; the higher the hardness, the harder a row is for `easy_to_hard`. None of it changes a feature, so
none of it is part of a fingerprint."""

Facts: TypeAlias = ArrayLike | Mapping[str, ArrayLike] | None
"""Of the rows of `train`, or of several partitions by name."""


def by_partition(known: Mapping[str, Facts], parts: Sequence[str]) -> dict[str, dict[str, ArrayLike | None]]:
    """What is known of the rows of each partition, as `know` takes it.

    Raises:
        InputError: Something is said of a partition that is not there.
    """
    named = {name: facts if isinstance(facts, Mapping) else {"train": facts} for name, facts in known.items()}
    for name, facts in named.items():
        if strange := [part for part in facts if part not in parts]:
            raise InputError(f"{name} are given of {', '.join(strange)}, the dataset has {', '.join(parts)}: rename "
                             "them, or leave them out")  # fmt: skip
    return {part: {name: facts.get(part) for name, facts in named.items()} for part in parts}


def know(partition: Partition, facts: Mapping[str, ArrayLike | None], part: str) -> Partition:
    """The partition, with what is known of its rows as attributes, (N,) each; facts that are None are not known.

    Raises:
        InputError: One value per row is missing, a group has no name, or a hardness is no number.
    """
    for name, given in facts.items():
        if given is None:
            continue
        values = np.asarray(given)
        if values.shape != (len(partition),):
            raise InputError(
                f"{name} of {part} have shape {values.shape}, expected one value for each of its {len(partition)} "
                "rows: mend the data"
            )
        if name == "hardness":
            values = _numbers(values, part)
        if name == "groups":
            _check_named(values, part)
            values = _as_named_elsewhere(values)
        setattr(partition, name, values)
    return partition


def _check_named(groups: NDArray[Any], part: str) -> None:
    """A row without a group would be in one group with all others that have none."""
    nameless = np.array([value is None or value != value or str(value).strip() == "" for value in groups.tolist()])
    if nameless.any():
        raise InputError(
            f"groups of {part} are missing in {counted(int(nameless.sum()), 'row')}, the first is row "
            f"{nameless.argmax()}, expected a "
            "name or a number for each: fill them in, each with one of its own where a row belongs to no group"
        )


def _as_named_elsewhere(groups: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as such: patient 3.0 of one file is patient 3 of another, and partitions are compared by name."""
    whole = groups.dtype.kind == "f" and bool((groups == np.rint(groups)).all() and (np.abs(groups) < 2**53).all())
    return groups.astype(np.int64) if whole else groups


def _numbers(values: NDArray[Any], part: str) -> NDArray[np.float64]:
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        numbers = np.full(len(values), np.nan)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise InputError(
            f"hardness of row {wrong[0]} of {part} is {str(values[wrong[0]])!r}, expected a finite number, larger "
            "where a row is harder: mend the data"
        )
    return numbers


def keep_facts(part: Partition, whole: Partition, rows: IntArray) -> None:
    """Hands what is known of the rows of a partition on to some of them."""
    for name in FACTS:
        if hasattr(whole, name):
            setattr(part, name, np.asarray(getattr(whole, name))[rows])
