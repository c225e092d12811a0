"""Series in parquet: a column of lists is a channel; one of lists of lists holds all of them, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.datasets.shared.parquet_files import Files, is_list_type, is_series_type, open_file
from probe.datasets.shared.series_rows import Series, sound

SERIES = "series"
"""A column of lists that needs no asking for."""


def series_columns(schema: pa.Schema, asked: str | Sequence[str] | None, source: object) -> list[str]:
    """The columns that hold series: those asked for, by name or pattern, else the one called `series`, else none."""
    fitting = [field.name for field in schema if is_series_type(field.type)]
    if asked is None:
        return [SERIES] if SERIES in fitting else []
    patterns = [asked] if isinstance(asked, str) else list(asked)
    lost = [pattern for pattern in patterns if not any(fnmatchcase(column, pattern) for column in fitting)]
    if lost or not patterns:
        raise InputError(
            f"dataset.series_columns names {', '.join(lost) or 'nothing'}, which no column of lists of numbers in "
            f"{source} is called ({', '.join(fitting) or 'it has none'}): name some of these"
        )
    return [column for column in fitting if any(fnmatchcase(column, pattern) for pattern in patterns)]


def read_series(files: Files, columns: Sequence[str], gaps: str, source: object) -> Mapping[str, list[Series]]:
    """The series of every partition, see `series_rows.sound`; missing values in lists are missing values."""
    return sound({part: [s for f in of_part for s in _of_file(f, columns)] for part, of_part in files.items()},
                 gaps, source)  # fmt: skip


def _of_file(file: Path, columns: Sequence[str]) -> list[Series]:
    with open_file(file) as opened:
        table = opened.read(columns=list(columns))
    channels = [_lists(table.column(column), f"column {column} of {file}") for column in columns]
    found = []
    for row, of_row in enumerate(zip(*channels, strict=True)):
        if len({len(channel) for channel in of_row}) > 1:
            steps = ", ".join(str(len(channel)) for channel in of_row)
            raise InputError(
                f"row {row} of {file} has lists of {steps} numbers in the columns {', '.join(columns)}, expected as "
                "many in each: write null for values that are missing"
            )
        found.append(np.concatenate(of_row, axis=1))
    return found


def _lists(column: pa.ChunkedArray, where: str) -> list[NDArray[Any]]:
    """(T, C) of every row; C is 1 where lists are flat."""
    if column.null_count:
        row = next(i for i, value in enumerate(column) if not value.is_valid)
        raise InputError(f"row {row} of {where} has no list, expected a series: fill it in, or leave the row out")
    found: list[NDArray[Any]] = []
    for chunk in column.chunks:
        steps, n_channels = chunk.flatten(), 1
        if is_list_type(steps.type):
            widths = np.unique(np.asarray(steps.value_lengths().fill_null(-1)))
            if len(widths) > 1 or -1 in widths:
                raise InputError(
                    f"{where} has steps of {', '.join(str(max(n, 0)) for n in widths)} channels, expected as many in "
                    "every step: write null for values that are missing"
                )
            n_channels = int(widths[0]) if len(widths) else 1
            steps = steps.flatten()
        values = steps.to_numpy(zero_copy_only=False)
        values = (values if values.dtype.kind == "f" else values.astype(np.float64)).reshape(-1, n_channels)
        found += np.split(values, np.cumsum(np.asarray(chunk.value_lengths()))[:-1]) if len(chunk) else []
    return found
