"""Rows that are series: steps of channels, of lengths that may differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.hashing import hash_arrays, hash_bytes
from probe.core.targets import Target
from probe.core.targets.one_class import ONE_CLASS
from probe.datasets.shared.partitions import check_lengths

GAPS = ("refuse", "interpolate", "zero")
Series = NDArray[np.floating[Any]]


class SeriesPartition:
    """Series in memory, (T, C) each, end to end in one array.

    Args:
        rows: N of them, all of C channels.
        labels: Class codes (N,), or what another target says.
        ids: Names of the rows.
        target: What a label is.
    """

    def __init__(self, rows: Sequence[Series], labels: ArrayLike, ids: Sequence[str], target: Target = ONE_CLASS):
        self.labels: NDArray[Any] = target.held(labels)
        self.ids = list(ids)
        check_lengths({"rows": len(rows), "labels": len(self.labels), "ids": len(self.ids)})
        self.lengths: IntArray = np.array([len(row) for row in rows], dtype=np.int64)
        self._steps = np.concatenate(rows) if len(rows) else np.empty((0, 0))
        self._ends = np.cumsum(self.lengths)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of steps, lengths, labels and ids."""
        ids = np.asarray(self.ids, dtype=np.str_)
        return hash_arrays({"steps": self._steps, "lengths": self.lengths, "labels": self.labels, "ids": ids})

    def row_digests(self) -> list[str]:
        """Digest of each series: equal ones have equal digests."""
        return self._row_digests

    @cached_property
    def _row_digests(self) -> list[str]:
        return [hash_bytes(np.ascontiguousarray(self[row]).tobytes()) for row in range(len(self))]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Series:
        end = int(self._ends[row])
        return self._steps[end - int(self.lengths[row]) : end]


def check_gaps(gaps: str) -> None:
    """Refuses another word than those of `GAPS`."""
    if gaps not in GAPS:
        raise InputError(f"gaps is {gaps!r}, expected one of {', '.join(GAPS)}: set dataset.gaps to one of them")


def sound(raw: Mapping[str, Sequence[Series]], gaps: str, source: object) -> dict[str, list[Series]]:
    """The series of every partition, finite and of one number of channels.

    Steps at the end in which all channels are missing are no steps: so do files pad series to one length.

    Args:
        raw: By partition, (T, C) each, NaN where a value is missing.
        gaps: What becomes of other missing values: they are refused, or filled on the straight line between the values
            before and after in their channel (at the ends with the nearest one), or by 0, as a channel without any is.
        source: What an error calls the place where they stand.

    Raises:
        InputError: A series without steps, of other channels than the first, with infinite or missing values.
    """
    n_channels = next((row.shape[1] for rows in raw.values() for row in rows), 0)
    found: dict[str, list[Series]] = {}
    for part, rows in raw.items():
        found[part] = []
        for number, row in enumerate(rows):
            where = f"row {number} of {part} of {source}"
            if row.shape[1] != n_channels:
                raise InputError(
                    f"{where} has {row.shape[1]} channels where the first has {n_channels}, expected as many in every "
                    "row: mend the file, or leave channels out"
                )
            found[part].append(_filled(_without_padding(row, where), gaps, where))
    return found


def _without_padding(row: Series, where: str) -> Series:
    there = np.flatnonzero(~np.isnan(row).all(axis=1))
    if not len(there):
        raise InputError(f"{where} has no step with a value, expected at least one: leave the row out of the file")
    return row[: there[-1] + 1]


def _filled(row: Series, gaps: str, where: str) -> Series:
    finite = np.isfinite(row)
    if finite.all():
        return row
    for step, channel in np.argwhere(~finite):
        if np.isinf(row[step, channel]):
            raise InputError(
                f"{where} has {row[step, channel]} in step {step} of channel {channel}, expected a finite number: mend "
                "it, or take it out as a missing value"
            )
        if gaps == "refuse":
            raise InputError(
                f"{where} has no value in step {step} of channel {channel}, expected a number: set "
                "dataset.gaps=interpolate, or zero, to fill in what is missing"
            )
    if gaps == "zero":
        return np.where(finite, row, 0).astype(row.dtype)
    row, steps = row.copy(), np.arange(len(row))
    for channel, known in enumerate(finite.T):
        row[~known, channel] = np.interp(steps[~known], steps[known], row[known, channel]) if known.any() else 0
    return row


def of_array(array: NDArray[Any], lengths: NDArray[Any] | None, key: str, source: object) -> list[Series]:
    """The series (T, C) of an array (N, T, C), or (N, T) of one channel each.

    Args:
        array: Numbers.
        lengths: (N,) steps of each series, where the rest is padding.
        key: What an error calls the array.
        source: Where it stands.
    """
    if array.ndim not in (2, 3) or array.dtype.kind not in "fiu" or 0 in array.shape[1:]:
        raise InputError(
            f"{key} of {source} is {array.dtype} of shape {array.shape}, expected numbers (N, T, C), or (N, T) of one "
            "channel, for series: convert it"
        )
    values = array if array.dtype.kind == "f" else array.astype(np.float64)
    values = values if array.ndim == 3 else values[..., None]
    if lengths is None:
        return list(values)
    n_steps = values.shape[1]
    if lengths.shape != (len(values),) or lengths.dtype.kind not in "iu":
        raise InputError(
            f"the lengths of {key} of {source} are {lengths.dtype} of shape {lengths.shape}, expected a whole number "
            f"for each of its {len(values)} rows: mend the file"
        )
    if len(odd := np.flatnonzero((lengths < 1) | (lengths > n_steps))):
        raise InputError(
            f"row {odd[0]} of {key} of {source} is {lengths[odd[0]]} steps long, expected 1 to {n_steps}, the steps "
            "that the array has: mend the lengths"
        )
    return [row[:n] for row, n in zip(values, lengths, strict=True)]


def given_series(X: Any) -> list[Series] | None:
    """The series of a float array (N, T, C), or of a list of float arrays (T, C); None of anything else."""
    rows = list(X) if isinstance(X, list | np.ndarray) else []
    are_series = [isinstance(row, np.ndarray) and row.ndim == 2 and row.dtype.kind == "f" for row in rows]
    return rows if rows and all(are_series) else None
