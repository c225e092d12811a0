"""Captions: texts that say what a row shows, any number of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from probe.core.targets import DECLARE_CAPTIONS, Codes, Target
from probe.core.words import counted


@runtime_checkable
class HasCaptions(Protocol):
    """A partition whose rows have captions; its `labels` are (N,) how many each has."""

    @property
    def captions(self) -> Sequence[Sequence[str]]: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Captions(Target):
    """Each row has any number of captions; nothing is learnt from them, images and texts are looked for in each other.

    `labels` of a partition are (N,) int64, the number of captions of each row; the texts themselves are its `captions`.
    There are no classes, so a dataset has no names. It needs the partition `test` alone.
    """

    name: ClassVar[str] = "captions"
    phrase: ClassVar[str] = "captions"
    learnt: ClassVar[bool] = False
    declared: ClassVar[str] = DECLARE_CAPTIONS
    least_names: ClassVar[int] = 0

    def expected(self, class_names: Sequence[str]) -> str:
        """Texts to find."""
        return "a partition test with a caption for one of its rows at least: name the column or file of the captions"

    def faults(self, part: str, labels: NDArray[Any], class_names: Sequence[str], ids: Sequence[str] = ()) -> list[str]:
        """What is wrong with the numbers of captions of a partition."""
        if labels.shape != (len(labels),) or labels.dtype.kind not in "iu" or (labels < 0).any():
            return [f"{part} has labels of {labels.dtype} and shape {labels.shape}, not a number of captions per row"]
        if not len(labels):
            return [f"{part} has no rows"]
        return [] if labels.any() else [f"{part} ({counted(len(labels), 'row')}) has no caption"]

    def strata(self, labels: NDArray[Any], train: NDArray[Any] | None = None) -> Codes:
        """One for all rows."""
        return np.zeros(len(labels), dtype=np.int64)

    def counts(self, labels: NDArray[Any], n_classes: int) -> Codes:
        """(0,): there are no classes."""
        return np.zeros(n_classes, dtype=np.int64)

    def described(self, labels: NDArray[Any], class_names: Sequence[str]) -> tuple[str, str, str]:
        """How many captions there are, and how many a row has."""
        spread = f"{labels.min()} to {labels.max()}, median {np.median(labels):g}"
        without = int((labels == 0).sum())
        return (
            counted(int(labels.sum()), "caption"),
            "captions / row",
            spread + (f"; {counted(without, 'row')} without any" if without else ""),
        )

    def fits_record(self, labels: NDArray[Any], n_classes: int) -> str:
        """A run keeps the number of captions of each row."""
        return "" if labels.ndim == 1 and bool((labels >= 0).all()) else "are no numbers of captions"

    def shown(self, label: Any, class_names: Sequence[str]) -> str:
        """How many captions the row has."""
        return counted(int(label), "caption")


CAPTIONS = Captions()
