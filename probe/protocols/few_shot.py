"""A few training rows of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.core.base import Dataset, Split
from probe.core.errors import InputError
from probe.protocols.shared.checks import check_fraction
from probe.protocols.shared.draws import priorities, ranks_in_class
from probe.protocols.shared.validation import split_drawn


@dataclass(frozen=True)
class FewShot:
    """Draws k rows of every class, and nothing else is known: the validation rows are among them.

    Of numbers to predict, k rows of every tenth of the rows by size.

    The draws of one seed are nested in k. Below k = 5 hyper-parameters are chosen by folds of the drawn rows.

    Args:
        k: Rows per class.
        validation_fraction: Share of the drawn rows that validates, from k = 5 on.
    """

    k: int = 5
    validation_fraction: float = 0.2
    name: ClassVar[str] = "few_shot"
    by_share: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fraction("validation_fraction", self.validation_fraction)
        if self.k < 1:
            raise InputError(f"k is {self.k}, expected at least 1 row per class: 1, 2, 4, 8 and 16 are usual")

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        labels = np.asarray(dataset.partitions["train"].labels)
        counts = np.bincount(labels, minlength=len(dataset.class_names))
        if self.k > counts.min():
            raise InputError(
                f"k is {self.k}, but class {dataset.class_names[counts.argmin()]} of dataset {dataset.name} has only "
                f"{counts.min()} training rows: set protocol.k to {counts.min()} or less"
            )
        ranks = ranks_in_class(labels, priorities(len(labels), dataset.fingerprint, seed, "train"))
        return split_drawn(dataset, np.flatnonzero(ranks < self.k), seed, self.validation_fraction)
