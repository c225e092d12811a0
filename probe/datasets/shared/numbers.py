"""Numbers to predict, as they stand in the columns of files, and labels of any target for a loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.targets import Target
from probe.core.targets.number import Number
from probe.datasets.shared.columns import Role, required
from probe.datasets.shared.dictionaries import Coded, one_dictionary
from probe.datasets.shared.labels import encode_labels, join_columns, target_of

NUMBERS = Role("numbers to predict", "target_columns", ())


class Labelled(NamedTuple):
    """What a dataset's rows are labelled with.

    Attributes:
        labels: Of each partition, as the target has them.
        names: Of the classes, of the labels, or of the columns of numbers.
        target: What a label is.
    """

    labels: dict[str, NDArray[Any]]
    names: list[str]
    target: Target


def classes(raw: Mapping[str, Any], *how: Any) -> Labelled:
    """Labels that are classes; `how` are the further arguments of `encode_labels`."""
    return Labelled(*encode_labels(raw, *how), target_of(raw))


def joined_classes(
    coded: Mapping[str, Mapping[str, Sequence[Coded]]],
    names: Sequence[str] | None,
    ignore_label: int | str | None,
    map_labels: bool,
    unknown_labels: bool = False,
) -> tuple[Labelled, set[str]]:
    """Classes of one column in one dictionary, or of several, each a label; and the partitions that were translated.

    Args:
        coded: By column, the labels of every file of each partition.
        names: What the user calls them.
        ignore_label: See `encode_labels`, as the next.
        map_labels: Whether numbers may be any.
        unknown_labels: See `encode_labels`.
    """
    columns = list(coded)
    labels = {c: one_dictionary(coded[c], f"column {c}", declared=names is not None) for c in columns}
    raw = {part: join_columns({c: labels[c].values[part] for c in columns}) for part in coded[columns[0]]}
    names = names or (columns if len(columns) > 1 else labels[columns[0]].names)
    labelled = classes(raw, f"column {', '.join(columns)}", names, ignore_label, map_labels, unknown_labels)
    return labelled, set().union(*(of_column.translated for of_column in labels.values()))


@dataclass(frozen=True)
class Asked:
    """The columns that hold numbers to predict, as the user declares them.

    Attributes:
        columns: Their names, in this order.
        units: Of each, for display; empty where they are not said.
        missing: `refuse` or `drop`, see `Number`.
    """

    columns: tuple[str, ...]
    units: tuple[str, ...]
    missing: str

    def among(self, source: object, there: Mapping[str, str], fitting: Sequence[str] | None = None) -> list[str]:
        """The columns, of which each has to be there.

        Args:
            source: Where the columns stand.
            there: Every column, and how an error describes it.
            fitting: Those whose content can be numbers; all by default.
        """
        return [required(NUMBERS, source, there, column, fitting) for column in self.columns]

    def read(self, raw: Mapping[str, Mapping[str, Any]], source: object) -> Labelled:
        """The numbers of every partition.

        Args:
            raw: Of each partition the columns by name: numbers or texts of such, or arrays (N, Q), which are several.
            source: Where they stand.

        Raises:
            InputError: A value that is no finite number, or a missing one that is to be refused.
        """
        tables = {
            part: {name: self._numbers(values, f"{part} of {source}", column) for column, values in columns.items()
                   for name, values in _named(column, values)}
            for part, columns in raw.items()
        }  # fmt: skip
        names = list(tables["train"])
        for part, table in tables.items():
            if list(table) != names:
                raise InputError(
                    f"{part} of {source} has the numbers {', '.join(table)} where train has {', '.join(names)}, "
                    "expected the same: give the same columns in all partitions"
                )
        target = Number(self.units, self.missing)
        labels = {part: target.held(np.column_stack(list(table.values()))) for part, table in tables.items()}
        return Labelled(labels, names, target)

    def _numbers(self, values: Any, where: str, column: str) -> NDArray[np.float64]:
        """(N,) float64, NaN where a value is missing and may be."""
        texts = np.asarray(values).tolist()
        found = np.array([_number(value) for value in texts], dtype=np.float64)
        for row in np.flatnonzero(~np.isfinite(found)).tolist():
            if not _is_missing(texts[row]):
                raise InputError(
                    f"row {row} of {where} has {texts[row]!r} in column {column}, expected a finite number: mend it, "
                    "or leave the column out of dataset.target_columns"
                )
            if self.missing == "refuse":
                raise InputError(
                    f"row {row} of {where} has no value in column {column}, expected a number: fill it in, or set "
                    "dataset.missing=drop to leave such rows out"
                )
        return found


def numbers_asked(
    columns: str | Sequence[str] | None, units: str | Sequence[str] | None, missing: str, **of_classes: Any
) -> Asked | None:
    """What the parameters `target_columns`, `units` and `missing` of a loader say; None where labels are classes.

    Args:
        columns: One or several names.
        units: One for each.
        missing: `refuse` or `drop`.
        of_classes: Parameters that say something of classes, by name: they have no meaning beside numbers.
    """
    if columns is None:
        if units is not None or missing != "refuse":
            raise InputError(
                "dataset.units and dataset.missing are for numbers to predict, no column of such is named: name them "
                "in dataset.target_columns=[...]"
            )
        return None
    given = [name for name, value in of_classes.items() if value is not None and value is not False]
    if given:
        raise InputError(
            f"dataset.target_columns declares numbers to predict, dataset.{given[0]} says something of classes: leave "
            "one of the two out"
        )
    names, said = ([value] if isinstance(value, str) else list(value or ()) for value in (columns, units))
    if not names:
        raise InputError("dataset.target_columns names no column, expected at least one: name those of the numbers")
    return Asked(tuple(names), tuple(said), missing)


def _named(column: str, values: Any) -> list[tuple[str, Any]]:
    """A column of numbers under its name, or the columns of an array (N, Q) under it and a number."""
    if isinstance(values, np.ndarray) and values.shape[1:] not in ((), (1,)):
        if len(values.shape) > len("NQ"):
            raise InputError(f"{column} has shape {values.shape}, expected (rows,) or (rows, columns): reshape it")
        return [(f"{column}_{k}", values[:, k]) for k in range(values.shape[1])]
    return [(column, values.reshape(-1) if isinstance(values, np.ndarray) else values)]


def _number(value: Any) -> float:
    if isinstance(value, bool):
        return np.inf
    try:
        return float(value) if not _is_missing(value) else np.nan
    except (TypeError, ValueError):
        return np.inf


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip() == "" or value.strip().lower() == "nan"
    return value is None or value != value
