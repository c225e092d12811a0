"""Several labels per row: targets (N, K) of zeros and ones, and the classes that stand in for them in draws.

A label that nobody has looked for in a row is neither: it is `UNKNOWN`.

Whether labels are such a matrix is asked here and nowhere else in the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.errors import InputError
from probe.core.targets import DECLARE_NUMBERS, Codes, Target
from probe.core.words import counted

UNKNOWN = -1
"""Of a label of which it is not known whether the row has it."""
MISSING = ("", "?", "null", "none", "nan", "-1")
"""How files write that, in any case of letters; null and NaN are it too."""
NO_LABEL = "no label"
"""Name of the stratum of rows without any label."""


@dataclass(frozen=True)
class Labels(Target):
    """Each row has any number of K labels, as zeros and ones (N, K); a head gives the log-odds (N, K) of each.

    A label may be `UNKNOWN` in some rows: nothing is then learnt from these about it, nor measured on them.
    """

    name: ClassVar[str] = "labels"
    phrase: ClassVar[str] = "several labels per row"
    calibrates: ClassVar[bool] = True

    def faults(self, part: str, labels: NDArray[Any], class_names: Sequence[str], ids: Sequence[str] = ()) -> list[str]:
        """What is wrong with the targets of a partition; each label stands at some training rows and not at others."""
        if labels.ndim != 2:
            return [f"{part} has one label per row where another partition has several"]
        if not len(labels):
            return [f"{part} has no rows"]
        if labels.shape[1] != len(class_names):
            return [f"{part} has {labels.shape[1]} label columns and {len(class_names)} names"]
        if not np.isin(labels, (0, 1, UNKNOWN)).all():
            return [f"{part} has label columns with other values than 0 and 1"]
        nothing = np.flatnonzero((labels == UNKNOWN).all(axis=1))
        if len(nothing):
            where = f" ({ids[nothing[0]]})" if len(ids) else ""
            return [
                f"{part} has {counted(len(nothing), 'row')} of which no label is known, the first is row "
                f"{nothing[0]}{where}"
            ]
        if part != "train":
            return []
        counts = (labels == 1).sum(axis=0)
        useless = [class_names[int(k)] for k in np.flatnonzero((counts == 0) | ~(labels == 0).any(axis=0))]
        if not useless:
            return []
        listed = ", ".join(useless[:3]) + (", ..." if len(useless) > 3 else "")
        return [f"in train {len(useless)} labels stand at no row or at every one ({listed})"]

    def expected(self, class_names: Sequence[str]) -> str:
        """What a sound dataset has."""
        return (
            "at least 2 labels, each of them at some training rows and not at others, and one that is known in every "
            "row: mend them, or leave such labels and rows out"
        )

    def strata(self, labels: NDArray[Any], train: NDArray[Any] | None = None) -> Codes:
        """The rarest label of each row, K where it has none.

        To share out the rarest labels first is the idea of K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the
        Stratification of Multi-Label Data", 2011; here in one pass, so that draws of different sizes can be nested.
        """
        has = labels == 1
        order = np.argsort((has if train is None else train == 1).sum(axis=0), kind="stable")
        rarest = order[has[:, order].argmax(axis=1)]
        return np.where(has.any(axis=1), rarest, labels.shape[1]).astype(np.int64)

    def strata_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """The labels, and a name for the rows without any."""
        return (*class_names, NO_LABEL)

    def counts(self, labels: NDArray[Any], n_classes: int) -> Codes:
        """(K,) rows that have each label."""
        found: Codes = (labels == 1).sum(axis=0)
        return found

    def fits_record(self, labels: NDArray[Any], n_classes: int) -> str:
        """A run keeps zeros, ones, and marks of unknown labels."""
        return "" if np.isin(labels, (0, 1, UNKNOWN)).all() else "are other than 0 and 1"

    def shown(self, label: Any, class_names: Sequence[str]) -> str:
        """All labels of the row."""
        told = [class_names[int(k)] for k in np.flatnonzero(np.equal(label, 1))]
        return ", ".join(told + [f"{class_names[int(k)]}?" for k in np.flatnonzero(np.equal(label, UNKNOWN))]) or "-"


def is_matrix(labels: ArrayLike, n_rows: int, unknown: bool = False) -> bool:
    """Whether labels are zeros and ones of two columns or more, one line for each of the rows.

    Args:
        labels: Anything.
        n_rows: That there are to be.
        unknown: Whether some may be `UNKNOWN`.
    """
    found, allowed = np.asarray(labels), (0, 1, UNKNOWN) if unknown else (0, 1)
    return found.ndim == 2 and len(found) == n_rows and found.shape[1] > 1 and bool(np.isin(found, allowed).all())


def has_unknown(labels: NDArray[Any]) -> bool:
    """Whether some of several labels per row are unknown."""
    return labels.ndim == 2 and bool((labels == UNKNOWN).any())


def has_columns(labels: NDArray[Any]) -> bool:
    """Whether an array as it stands in a file has a column per label; a single column is one class per row."""
    return labels.ndim == 2 and labels.shape[1] > 1


def holds_targets(raw: Mapping[str, Any]) -> bool:
    """Whether labels as they were read are lists, or arrays with a column per label."""
    return any(
        np.ndim(values) == 2 if isinstance(values, np.ndarray) else any(isinstance(v, list | tuple) for v in values)
        for values in raw.values()
    )


def encode_targets(
    raw: Mapping[str, Any],
    source: str,
    class_names: Sequence[str] | None,
    ignore_label: Any = None,
    unknown_labels: bool = False,
) -> tuple[dict[str, Codes], list[str]]:
    """Targets (N, K) of every partition, and the label names.

    Args:
        raw: Of each partition an array (N, K) of zeros and ones, or a list of labels (numbers or names) for each row.
        source: What the error calls the place where they stand.
        class_names: In the order of the columns or of the labels' numbers; lists of names are sorted by default.
        ignore_label: Refused: it leaves out rows of one class.
        unknown_labels: Whether null, NaN, `?` and -1 in columns are labels of which nothing is known.
    """
    if ignore_label is not None:
        raise InputError(
            f"ignore_label leaves out the rows of one class, in {source} a row has several labels: leave it out"
        )
    if any(isinstance(values, np.ndarray) for values in raw.values()):
        alone = [part for part, values in raw.items() if np.ndim(values) != 2]
        if alone:
            raise InputError(
                f"{alone[0]} has one label per row in {source}, where another partition has a column per label: give "
                "all of them the same columns"
            )
        known = {part: with_unknown(values) for part, values in raw.items()} if unknown_labels else raw
        return _from_columns(known, source, class_names, unknown_labels)
    if unknown_labels:
        raise InputError(
            f"dataset.unknown_labels is about labels in a column each, {source} has lists, which name those that a row "
            "has: write columns, or leave it out"
        )
    return _from_lists(raw, source, class_names)


def _from_columns(
    raw: Mapping[str, NDArray[Any]], source: str, class_names: Sequence[str] | None, unknown: bool
) -> tuple[dict[str, Codes], list[str]]:
    for part, values in raw.items():
        odd = np.argwhere(~np.isin(values, (0, 1, UNKNOWN) if unknown else (0, 1)))
        if len(odd):
            missing = [] if unknown else [place for place in odd if _is_missing(values[tuple(place)])]
            row, column = (int(i) for i in (missing or odd)[0])
            way = "set dataset.unknown_labels=true if it is not known" if missing else f"mend it; {DECLARE_NUMBERS}"
            raise InputError(
                f"row {row} of {part} has {values[row, column]!r} in label column {column} of {source}, expected 0 or "
                f"1: {way}"
            )
    n_labels = next(iter(raw.values())).shape[1]
    codes = {part: values.astype(np.int64) for part, values in raw.items()}
    return codes, list(class_names or [str(k) for k in range(n_labels)])


def with_unknown(values: NDArray[Any]) -> NDArray[Any]:
    """The same with `UNKNOWN` where a label is missing; words of 0 and 1 as numbers."""
    if values.dtype.kind in "iub":
        return values
    found = np.array([UNKNOWN if _is_missing(value) else _number(value) for value in values.ravel()], dtype=object)
    numbers = all(isinstance(value, int | float) for value in found)
    return (found.astype(np.float64) if numbers else found).reshape(values.shape)


def _is_missing(value: Any) -> bool:
    return value is None or value != value or str(value).strip().lower() in MISSING


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _from_lists(
    raw: Mapping[str, Sequence[Any]], source: str, class_names: Sequence[str] | None
) -> tuple[dict[str, Codes], list[str]]:
    for part, rows in raw.items():
        odd = next((i for i, labels in enumerate(rows) if not isinstance(labels, list | tuple)), None)
        if odd is not None:
            raise InputError(
                f"row {odd} of {part} has {rows[odd]!r} in {source} where other rows have lists of labels, expected a "
                "list: write it as one, empty if no label fits"
            )
    known = {label for labels in raw["train"] for label in labels}
    if any(isinstance(label, str) for label in known):
        order = list(class_names or sorted(map(str, known)))
        number: dict[Any, int] = {name: k for k, name in enumerate(order)}
    else:
        order = list(class_names or [str(k) for k in range(max(map(int, known), default=0) + 1)])
        number = {k: k for k in range(len(order))}
    return {part: _matrix(rows, number, part, source) for part, rows in raw.items()}, order


def _matrix(rows: Sequence[Sequence[Any]], number: Mapping[Any, int], part: str, source: str) -> Codes:
    targets = np.zeros((len(rows), len(number)), dtype=np.int64)
    for row, labels in enumerate(rows):
        for label in labels:
            if label not in number:
                raise InputError(
                    f"row {row} of {part} has the label {label!r} in {source}, which is none of the {len(number)} "
                    "labels of train: mend it, or name all labels in dataset.class_names"
                )
            targets[row, number[label]] = 1
    return targets
