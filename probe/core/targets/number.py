"""Numbers to predict: one real number per row (N,), or one in each of Q columns (N, Q)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.errors import InputError
from probe.core.targets import Codes, Target

Numbers = NDArray[np.float64]
N_STRATA = 10
ROWS_PER_STRATUM = 10
MOST_GRADES = 100


@dataclass(frozen=True)
class Number(Target):
    """Each row has one number (N,), or Q of them (N, Q), as float64; a head gives the mean of each.

    The names of a dataset are those of the columns.

    Attributes:
        units: Of the columns, for display; empty where they are not said.
        missing: `refuse`, or `drop`: rows with a missing value (NaN) are left out and counted.
        ordered: Whether the numbers are grades.
    """

    name: ClassVar[str] = "number"
    phrase: ClassVar[str] = "numbers to predict"
    even: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    calibrates: ClassVar[bool] = True
    constant_head: ClassVar[str] = "mean"
    least_names: ClassVar[int] = 1
    ignored_phrase: ClassVar[str] = "without a number to predict"

    units: tuple[str, ...] = ()
    missing: str = "refuse"
    ordered: bool = False

    def __post_init__(self) -> None:
        if self.missing not in ("refuse", "drop"):
            raise InputError(
                f"missing is {self.missing!r}, expected refuse or drop: set dataset.missing to one of them"
            )

    def held(self, labels: ArrayLike) -> NDArray[Any]:
        """As float64; a single column as (N,)."""
        given = np.asarray(labels)
        if given.dtype.kind not in "iuf":
            raise InputError(f"numbers to predict are {given.dtype}, expected numbers: convert them")
        values = given.astype(np.float64)
        return values[:, 0] if values.shape[1:] == (1,) else values

    def ignored(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Rows with a missing value, where these are to be dropped."""
        if self.missing == "refuse" or not len(labels):
            return np.zeros(len(labels), dtype=bool)
        missing: NDArray[np.bool_] = np.asarray(np.isnan(columns_of(labels)).any(axis=1))
        return missing

    def name_faults(self, class_names: Sequence[str]) -> list[str]:
        """Each column has a name of its own, and a unit where any has one."""
        found = []
        if not class_names or len(set(class_names)) < len(class_names):
            found.append(f"its columns are named {', '.join(class_names) or 'nothing'}")
        if self.units and len(self.units) != len(class_names):
            found.append(f"it has {len(self.units)} units ({', '.join(self.units)}) for {len(class_names)} columns")
        return found

    def expected(self, class_names: Sequence[str]) -> str:
        """Finite numbers that differ."""
        return (
            "finite numbers that differ in each column of train, under names of their own: fill in what is missing or "
            "set dataset.missing=drop, and leave constant columns out"
        )

    def faults(self, part: str, labels: NDArray[Any], class_names: Sequence[str], ids: Sequence[str] = ()) -> list[str]:
        """What is wrong with the numbers of a partition; in train each column has two values or more."""
        n_columns = len(class_names)
        if labels.shape != (len(labels), n_columns)[: 1 + (n_columns > 1)] or labels.dtype.kind != "f":
            return [f"{part} has labels of {labels.dtype} and shape {labels.shape}, not {n_columns} numbers per row"]
        if not len(labels):
            return [f"{part} has no rows"]
        values = columns_of(labels)
        odd = np.argwhere(~np.isfinite(values))
        if len(odd):
            row, column = (int(i) for i in odd[0])
            where = f" ({ids[row]})" if len(ids) else ""
            return [
                f"{part} has {len(odd)} numbers that are not finite, the first is {values[row, column]} in row "
                f"{row}{where}, column {class_names[column]}"
            ]
        if part != "train":
            return []
        if len(values) == 1:
            return ["train has 1 row"]
        if self.ordered and (most := max(len(np.unique(column)) for column in values.T)) > MOST_GRADES:
            return [
                f"train has {most} different numbers, where dataset.ordered=true wants grades, {MOST_GRADES} at most"
            ]
        constant = [class_names[int(q)] for q in np.flatnonzero(np.ptp(values, axis=0) == 0)]
        return [f"in train {', '.join(constant)} is the same number in every row"] if constant else []

    def strata(self, labels: NDArray[Any], train: NDArray[Any] | None = None) -> Codes:
        """Up to ten shares of the rows by size, of at least ten rows each: rows of equal numbers are in one.

        The size of a row is the number of training rows below it; of several columns, the sum. So nothing is rounded,
        and strata are the same on every machine.
        """
        train = labels if train is None else train
        known = np.sort(_ranks(train, train))
        below = np.searchsorted(known, _ranks(labels, train), side="left")
        n_strata = int(np.clip(len(known) // ROWS_PER_STRATUM, 1, N_STRATA))
        at_train = np.searchsorted(known, known, side="left") * n_strata // len(known)
        places = np.minimum(below * n_strata // len(known), n_strata - 1)
        return _merged(np.bincount(at_train, minlength=n_strata), len(known) / n_strata)[places]

    def strata_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Shares of the rows, the smallest numbers first."""
        return tuple(f"share {k + 1} by size" for k in range(N_STRATA))

    def counts(self, labels: NDArray[Any], n_classes: int) -> Codes:
        """(Q,) rows with a number in each column."""
        return np.full(n_classes, len(labels), dtype=np.int64)

    @property
    def facts(self) -> dict[str, Any]:
        """The units, and whether the numbers are grades."""
        return {**({"units": list(self.units)} if self.units else {}), **({"ordered": True} if self.ordered else {})}

    def in_order(self) -> Target:
        return replace(self, ordered=True)

    def described(self, labels: NDArray[Any], class_names: Sequence[str]) -> tuple[str, str, str]:
        """The columns with their units, and the range of each."""
        parts = []
        for name, values in zip(class_names, columns_of(labels).T, strict=True):
            parts.append(f"{name} {values.min():.4g} to {values.max():.4g}, median {np.median(values):.4g}")
        names = [f"{n} ({u})" for n, u in zip(class_names, self.units or [""] * len(class_names), strict=True)]
        listed = ", ".join(name.removesuffix(" ()") for name in names)
        return f"numbers to predict: {listed}", "train values", "; ".join(parts)

    def fits_record(self, labels: NDArray[Any], n_classes: int) -> str:
        """A run keeps finite numbers."""
        whole = np.isfinite(labels).all() and labels.size == len(labels) * n_classes
        return "" if whole else f"are not {n_classes} finite numbers per row"

    def outputs(self, head: Any, X: Any, n_classes: int) -> NDArray[Any]:
        """The means that a fitted head predicts, (N,) or (N, Q) float64."""
        return np.asarray(head.predict(X), dtype=np.float64)

    def shown(self, label: Any, class_names: Sequence[str]) -> str:
        """All numbers of the row, with their units."""
        values = np.ravel(label)
        units = self.units or [""] * len(values)
        return ", ".join(f"{value:.4g} {unit}".strip() for value, unit in zip(values, units, strict=True))


def columns_of(numbers: ArrayLike) -> Numbers:
    """(N, Q) of numbers (N,) or (N, Q)."""
    values = np.asarray(numbers, dtype=np.float64)
    return values[:, None] if values.shape[1:] == () else values


def _ranks(labels: NDArray[Any], train: NDArray[Any]) -> Codes:
    """(N,) training rows below each row, summed over the columns."""
    pairs = zip(columns_of(labels).T, columns_of(train).T, strict=True)
    below = [np.searchsorted(np.sort(known), values, side="left") for values, known in pairs]
    return np.sum(below, axis=0, dtype=np.int64)


def _merged(counts: Codes, share: float) -> Codes:
    """Number of each stratum once those of less than half a share, left by equal numbers, are part of the one below."""
    numbers, last, held = np.zeros(len(counts), dtype=np.int64), 0, 0
    for place, count in enumerate(counts):
        if held >= share / 2 and counts[place:].sum() >= share / 2:
            last, held = last + 1, 0
        numbers[place], held = last, held + count
    return numbers
