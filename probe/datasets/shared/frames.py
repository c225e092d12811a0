"""Data frames that a program holds, as the arrays they are: columns by their names, ordered categories by their order.

Frames of pandas are meant, and others with `columns` whose columns numpy reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.given import plain
from probe.core.targets.labels import has_columns
from probe.datasets.shared.vectors import check_precision

NUMBERS = "fiub"
"""Kinds of numpy's dtypes, which those of pandas have too, that features are made of."""
MISSING = ("NAType", "NaTType")


def unframed(given: Mapping[str, Any], as_classes: bool) -> tuple[dict[str, Any], list[str] | None]:
    """Pairs (X, y) of frames as pairs of arrays, columns in train's order, and the names that a y of train brings.

    What is no such pair, and what is no frame, comes back as it is.

    Args:
        given: By partition.
        as_classes: Whether y are classes that nobody names: ordered categories then name them from low to high, those
            that some row of train has, and every y is the names of its classes.

    Raises:
        InputError: Columns that have one name, other ones than those of train, or that hold no numbers where features
            do; a column of which float32 would keep little.
    """
    pairs = {part: value for part, value in given.items() if isinstance(value, tuple) and len(value) == 2}
    X = {part: _numbers(frame, part) for part, frame in _in_order(pairs, 0, "X").items()}
    y = {part: pair[1] for part, pair in pairs.items()} | _in_order(pairs, 1, "y")
    names = [str(name) for name in y["train"].columns] if "train" in y and _is_frame(y["train"]) else None
    y = {part: _column(of, 0) if _is_frame(of) and len(of.columns) == 1 else of for part, of in y.items()}
    one_column = names is not None and len(names) == 1
    if as_classes and (names is None or one_column):
        y, names = _named_by_order(y)
    read = {part: (X.get(part, pair[0]), y[part]) for part, pair in pairs.items()}
    return {**given, **read}, names


def _is_frame(given: Any) -> bool:
    return hasattr(given, "columns")


def _column(frame: Any, place: int) -> Any:
    return frame.iloc[:, place] if hasattr(frame, "iloc") else frame[frame.columns[place]]


def _in_order(pairs: Mapping[str, Any], side: int, which: str) -> dict[str, Any]:
    """The frames among what is given, their columns in the order of train's, where that is a frame too."""
    frames = {part: pair[side] for part, pair in pairs.items() if _is_frame(pair[side])}
    for part, frame in frames.items():
        name, n = Counter(frame.columns).most_common(1)[0] if len(frame.columns) else ("", 0)
        if n > 1:
            raise InputError(
                f"{which} of {part} is a data frame with {n} columns {name!r}, expected a name for each: rename them"
            )
    if "train" not in frames:
        return frames
    order = list(frames["train"].columns)
    known = set(order)
    for part, frame in frames.items():
        place = {name: place for place, name in enumerate(frame.columns)}
        new, lost = [name for name in place if name not in known], [name for name in order if name not in place]
        if new or lost:
            raise InputError(
                f"{which} of {part} is a data frame with the columns {_listed(new)} that train lacks and without "
                f"{_listed(lost)} of train, expected the same columns in both: rename them, or leave these out"
            )
        if list(place) != order:
            frames[part] = frame.iloc[:, [place[n] for n in order]] if hasattr(frame, "iloc") else frame[order]
    return frames


def _listed(names: list[Any]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "") if names else "none"


def _numbers(X: Any, part: str) -> NDArray[np.floating]:
    """(N, D) floats; iterating over a frame would give the names of its columns.

    Whole numbers alone are float32, as they are where an array holds them.
    """
    names = list(X.columns)
    given = [_column(X, place) for place in range(len(names))]
    columns = [_as_numbers(column) for column in given]
    if wrong := [name for name, column in zip(names, columns, strict=True) if column is None]:
        raise InputError(
            f"X of {part} is a data frame whose columns {_listed(wrong)} hold no numbers: leave these out or encode "
            f"them, or give X[{wrong[0]!r}] where that is the text of each row"
        )
    if not names:
        raise InputError(f"X of {part} is a data frame without columns, expected one for each feature: give some")
    arrays = [column for column in columns if column is not None]
    rows = np.column_stack([a if a.dtype.kind == "f" else a.astype(np.float64) for a in arrays])
    check_precision(rows, [repr(name) for name in names], f"X of {part}", "leave it out")
    kinds = {getattr(c.dtype, "kind", None) or a.dtype.kind for c, a in zip(given, arrays, strict=True)}
    return rows.astype(np.float32) if kinds <= set("iub") else rows


def _as_numbers(column: Any) -> NDArray[Any] | None:
    """A column as an array of numbers, NaN where a value is missing; None where it holds anything else.

    Times, texts and categories of digits can be made numbers of too, and mean none.
    """
    kind = getattr(column.dtype, "kind", None)  # of pandas' own dtypes too
    if kind is not None and kind in NUMBERS and not isinstance(column.dtype, np.dtype):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if kind == "O" and column.dtype != object:
        return None
    values = np.asarray(column)
    if values.dtype.kind in NUMBERS:
        return values
    if values.dtype.kind != "O" or not all(_is_missing(v) or isinstance(v, Real | np.bool_ | Decimal) for v in values):
        return None
    try:
        return np.array([np.nan if _is_missing(value) else float(value) for value in values], dtype=np.float64)
    except OverflowError:
        return None


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in MISSING or (isinstance(value, float) and value != value)


def _named_by_order(y: dict[str, Any]) -> tuple[dict[str, Any], list[str] | None]:
    """Every y as names, and those of train's ordered categories, low to high; both as they are where it has none."""
    kind: Any = getattr(y.get("train"), "dtype", None)
    if not getattr(kind, "ordered", False):
        return y, None
    named = {part: _names(values, part) for part, values in y.items()}
    there = set(named["train"])
    return named, [name for name in map(_name, kind.categories) if name in there]


def _names(values: Any, part: str) -> Any:
    read = np.asarray(plain(values, f"y of {part}"), dtype=object)
    return values if has_columns(read) else np.array([_name(value) for value in read.reshape(-1)], dtype=object)


def _name(value: Any) -> Any:
    """What a class is called; a missing one stays so, to be refused by its row."""
    if _is_missing(value):
        return value
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)
