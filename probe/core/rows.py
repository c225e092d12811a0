"""What the rows of a dataset are, and whether a backbone reads such rows."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from probe.core.base import Backbone, Dataset
from probe.core.errors import DoesNotFit
from probe.core.texts import Text

ROWS = ("images", "texts", "series", "vectors")
REMEDIES = {
    "images": "set backbone=tiny or another backbone of images",
    "texts": "set backbone=huggingface backbone.name=<hub id or folder of a language model>, or for the words alone "
    "(head=tfidf_linear, head=ss3) backbone=raw backbone.rows=texts",
    "vectors": "set backbone=identity",
    "series": "set backbone=rocket, or summary",
}


def sort_of(row: Any) -> str | None:
    """What a row is, one of `ROWS`; None for anything else."""
    import numpy as np
    from PIL import Image

    if isinstance(row, Image.Image):
        return "images"
    if isinstance(row, str | Text):
        return "texts"
    if isinstance(row, np.ndarray) and row.dtype.kind in "fiub":
        return {1: "vectors", 2: "series"}.get(row.ndim)
    return None


def rows_of(dataset: Dataset) -> str | None:
    """What a dataset says that its rows are, else what the first row that it has is; None where that is not known."""
    if dataset.rows is not None:
        return dataset.rows
    for partition in dataset.partitions.values():
        if len(partition):
            try:
                return sort_of(partition[0])
            except Exception:  # whether a row that cannot be decoded stops an extraction is decided there
                return None
    return None


@runtime_checkable
class BoundInLength(Protocol):
    """A backbone that cannot read series of every length."""

    def check_lengths(self, least: int, most: int) -> None:
        """Refuses sets whose shortest and longest series have so many steps, with the parameter that helps."""
        ...


def series_lengths(dataset: Dataset) -> list[int]:
    """Steps of all series of all partitions."""
    return [len(partition[row]) for partition in dataset.partitions.values() for row in range(len(partition))]


def check_rows(backbone: Backbone, dataset: Dataset) -> None:
    """Refuses a backbone that does not read what the rows of a dataset are, before any of them is read.

    Raises:
        DoesNotFit: With both names. What is not known is not refused here.
        InputError: Series are too short or too long for it.
    """
    reads, rows = getattr(backbone, "reads", None), rows_of(dataset)
    if reads is not None and rows is not None and reads != rows:
        raise DoesNotFit(
            f"backbone {backbone.name} reads {reads}, the rows of dataset {dataset.name} are {rows}: "
            + REMEDIES.get(rows, f"choose a backbone that reads {rows}")
        )
    if rows == "series" and isinstance(backbone, BoundInLength):
        lengths = series_lengths(dataset)
        backbone.check_lengths(min(lengths), max(lengths))
