"""Training on the easy rows to be tested on the hard ones, and the reverse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import Dataset, IntArray, Rows, Split
from probe.core.errors import InputError
from probe.protocols.shared.checks import all_rows, check_fraction
from probe.protocols.shared.draws import priorities
from probe.protocols.shared.hardness import own_hardness, read_hardness
from probe.protocols.shared.validation import split_drawn

PARTS = ("easy", "hard", "all")


@dataclass(frozen=True)
class EasyToHard:
    """Trains on the easy or hard part of train and tests on the easy or hard part of test.

    Easy are the `share` of each class's rows that are least hard, hard the `share` that are hardest, so that all parts
    have the same classes in the same numbers. `all` trains on as many rows of any hardness, and tests on all of test.
    The hardness of a row is 1 - the probability of its label, averaged over earlier runs that were fitted without it,
    or what the dataset itself says.
    Source: P. Hase et al., "The Unreasonable Effectiveness of Easy Training Data for Hard Tasks", 2024, arXiv
    2401.06751, whose released code calls this average MDL; the parts by class are ours, theirs are by quantile alone.

    Args:
        hardness: Folder of those runs, see `probe.protocols.shared.hardness`. They should be of another backbone than
            the one under test: what a head gets wrong itself is hard by definition. None for the dataset's own
            hardness.
        train: `easy`, `hard` or `all`.
        test: `easy`, `hard` or `all`.
        share: Of each class's rows, above 0 and at most 0.5.
        validation_fraction: Share of the drawn rows that validates, from 5 rows per class on; folds below.
    """

    hardness: str | None = "runs/hardness"
    train: str = "easy"
    test: str = "hard"
    share: float = 0.3
    validation_fraction: float = 0.2
    name: ClassVar[str] = "easy_to_hard"
    by_share: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fraction("validation_fraction", self.validation_fraction)
        if not {self.train, self.test} <= set(PARTS) or not 0 < self.share <= 0.5:
            raise InputError(
                f"train is {self.train!r}, test {self.test!r} and share {self.share}, expected easy, hard or all, and "
                "a share above 0 and at most 0.5: set protocol.train, protocol.test and protocol.share"
            )

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        all_rows(dataset, "test")  # missing, it is named before its hardness
        hardness = (
            own_hardness(dataset, self.test != "all")
            if self.hardness is None
            else read_hardness(Path(self.hardness), dataset)
        )
        split = split_drawn(dataset, self._train(dataset, hardness["train"], seed), seed, self.validation_fraction)
        if self.test == "all":
            return split
        return replace(split, test=Rows("test", self._part(dataset, "test", hardness["test"], self.test == "hard")))

    def _train(self, dataset: Dataset, hardness: NDArray[np.float64], seed: int) -> IntArray:
        if self.train != "all":
            return self._part(dataset, "train", hardness, self.train == "hard")
        chance = priorities(len(hardness), dataset.fingerprint, seed, "train")
        return self._part(dataset, "train", chance.astype(np.float64), False)

    def _part(self, dataset: Dataset, partition: str, order: NDArray[np.float64], last: bool) -> IntArray:
        """The first or last rows of each class along an order; of equal rows a fixed one comes first."""
        labels = np.asarray(dataset.partitions[partition].labels)
        counts = np.bincount(labels, minlength=len(dataset.class_names))
        if partition == "train" and counts.min() < 2:
            raise InputError(
                f"class {dataset.class_names[counts.argmin()]} of dataset {dataset.name} has {counts.min()} training "
                "rows, an easy and a hard part need 2: add rows or drop the class"
            )
        ties = priorities(len(labels), dataset.fingerprint, 0, f"hardness {partition}")
        rows = np.lexsort((ties, order, labels))
        ranks = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
        if last:
            ranks = counts[labels[rows]] - 1 - ranks
        taken = np.maximum(np.minimum(1, counts // 2), np.floor(counts * self.share).astype(np.int64))
        return np.sort(rows[ranks < taken[labels[rows]]])
