"""Rows that an earlier run wrote down, or that someone else chose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from probe.core.base import Dataset, Split
from probe.protocols.shared.rows_file import read_rows


@dataclass(frozen=True)
class Recorded:
    """Reads the rows from a `rows.json` that a run with `save_rows=true` left; the seed draws nothing.

    Args:
        path: The file.
    """

    path: str = "rows.json"
    name: ClassVar[str] = "recorded"
    by_class: ClassVar[bool] = False
    wants_train: ClassVar[bool] = False

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        return read_rows(Path(self.path), dataset)
