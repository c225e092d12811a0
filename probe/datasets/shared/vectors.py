"""Tables with one column per feature: which columns these are, and the rows that they make."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError

ROW_NUMBERS = ("", "id", "index", "row", "unnamed: 0", "__index_level_0__")
"""Columns of numbers that name a row and measure nothing."""

COARSEST = 1e-3
"""What float32 may round off, as a share of a column's standard deviation."""


def feature_columns(
    numeric: Mapping[str, bool], asked: str | Sequence[str] | None, taken: Collection[str | None], source: object
) -> list[str]:
    """The columns that are features.

    Args:
        numeric: Every column, and whether it holds numbers alone.
        asked: Names or patterns such as `f*`. By default all columns that are not taken; where one of them may be
            something else, it has to be said.
        taken: Columns that hold something else, such as the labels.
        source: What the error calls the table.
    """
    free = [column for column in numeric if column not in taken]
    if asked is not None:
        patterns = [asked] if isinstance(asked, str) else list(asked)
        lost = [p for p in patterns if not any(fnmatchcase(column, p) for column in free)]
        if lost or not patterns:
            raise InputError(
                f"dataset.feature_columns names {', '.join(lost) or 'nothing'}, which no free column of {source} is "
                f"called ({', '.join(free)}): name some of these"
            )
        return [column for column in free if any(fnmatchcase(column, pattern) for pattern in patterns)]
    unclear = [column for column in free if not numeric[column] or column.lower() in ROW_NUMBERS]
    if unclear or not free:
        raise InputError(
            f"{source} has no column of images, and beside the labels {', '.join(map(repr, unclear[:5])) or 'nothing'}"
            f"{', ...' if len(unclear) > 5 else ''}, which may be no features: name the column that holds the images, "
            "or the features in dataset.feature_columns=[...], where patterns such as 'f*' will do"
        )
    return free


def stacked(columns: Mapping[str, Sequence[NDArray[np.generic]]], source: object) -> NDArray[np.floating]:
    """Rows (N, D) of columns that are given file by file; values that are not finite are refused by row and column."""
    arrays = [np.concatenate(files) for files in columns.values()]
    rows = np.column_stack([a if a.dtype.kind == "f" else a.astype(np.float64) for a in arrays])
    odd = np.argwhere(~np.isfinite(rows))
    if len(odd):
        row, column = odd[0]
        raise InputError(
            f"row {row} of {source} has {rows[row, column]} in column {list(columns)[column]}, expected a finite "
            "number: fill it in, or leave the column out of dataset.feature_columns"
        )
    check_precision(rows, list(columns), source, "leave it out of dataset.feature_columns")
    return rows


def check_precision(rows: NDArray[np.floating], columns: Sequence[str], source: object, otherwise: str) -> None:
    """Refuses a column of which float32, in which features are, keeps little, as of seconds since 1970 on one day.

    Args:
        rows: (N, D).
        columns: Their names.
        source: Where they stand.
        otherwise: What to do where the smallest number cannot be subtracted.
    """
    if rows.dtype != np.float64 or len(rows) < 2:
        return
    with np.errstate(over="ignore"):
        spread, largest = rows.std(axis=0), np.abs(rows).max(axis=0)
    varies = rows.max(axis=0) > rows.min(axis=0)  # the deviation of a constant is of rounding, not 0
    odd = np.flatnonzero(varies & (largest * np.finfo(np.float32).eps / 2 > COARSEST * spread))
    if len(odd):
        column = odd[0]
        step = np.spacing(np.float32(largest[column]))
        raise InputError(
            f"column {columns[column]} of {source} varies by {spread[column]:.3g} (standard deviation) at "
            f"{largest[column]:.3g}, where features in float32 keep steps of {step:.3g}: subtract its smallest number, "
            f"or {otherwise}"
        )
