"""Accuracy after each task, of runs whose rows came in tasks: the lines of a figure, over orders of the tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.leaderboard.table import Table
from probe.results.reader import read_result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Line:
    """One row of a table in one column.

    Attributes:
        value, low, high: (T,) mean accuracies on the test rows of all tasks so far, and the 95 % interval of this mean
            over the seeds, which draw the order of the tasks; of one seed without width.
    """

    row: str
    column: str
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def gather(table: Table, frame: pd.DataFrame) -> list[Line]:
    """The lines of all cells whose runs came in tasks, equally many in each, that have test rows from the first on."""
    folders = frame.set_index("name")["folder"]
    return list(_lines(table, folders))


def _lines(table: Table, folders: Any) -> Iterator[Line]:
    from scipy.stats import t

    for row, column, names in zip(table.cells["row"], table.cells["column"], table.cells["runs"], strict=True):
        found = [(read_result(folders[name]).get("tasks") or {}).get("accuracies", []) for name in names]
        if not all(found) or len({len(one) for one in found}) > 1 or any(None in one for one in found):
            continue
        values = np.array(found, dtype=np.float64)
        mean, n = values.mean(axis=0), len(values)
        half = values.std(axis=0, ddof=1) / np.sqrt(n) * t.ppf(0.975, n - 1) if n > 1 else np.zeros_like(mean)
        yield Line(row, column, mean, np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1))
