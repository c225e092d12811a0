"""A few training rows of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.core.base import Dataset, Split
from probe.core.errors import InputError
from probe.protocols.shared.checks import check_fraction
from probe.protocols.shared.draws import first_of_each, priorities, ranks_in_class
from probe.protocols.shared.strata import classes_shown
from probe.protocols.shared.validation import split_drawn


@dataclass(frozen=True)
class FewShot:
    """Draws k rows of every class, and nothing else is known: the validation rows are among them.

    Of numbers to predict, k rows of every tenth of the rows by size. Of masks, k images of every class: the first k of
    those that show it, in one order of all images that the seed draws. An image counts for each class that it shows, so
    that there are at most k K of them.

    The draws of one seed are nested in k. Below k = 5 hyper-parameters are chosen by folds of the drawn rows.

    Args:
        k: Rows per class.
        validation_fraction: Share of the drawn rows that validates, from k = 5 on.
    """

    k: int = 5
    validation_fraction: float = 0.2
    name: ClassVar[str] = "few_shot"
    by_share: ClassVar[bool] = True
    by_shown: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fraction("validation_fraction", self.validation_fraction)
        if self.k < 1:
            raise InputError(f"k is {self.k}, expected at least 1 row per class: 1, 2, 4, 8 and 16 are usual")

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        shown = classes_shown(dataset, "train")
        labels = np.asarray(dataset.partitions["train"].labels)
        counts = np.bincount(labels, minlength=len(dataset.class_names)) if shown is None else shown.shown.sum(axis=0)
        if self.k > counts.min():
            names = dataset.class_names if shown is None else shown.class_names
            raise InputError(
                f"k is {self.k}, but class {names[counts.argmin()]} of dataset {dataset.name} has only {counts.min()} "
                f"training rows: set protocol.k to {counts.min()} or less"
            )
        priority = priorities(len(labels), dataset.fingerprint, seed, "train")
        if shown is None:
            rows = np.flatnonzero(ranks_in_class(labels, priority) < self.k)
        else:
            rows = first_of_each(shown.shown, priority, self.k)
        return split_drawn(dataset, rows, seed, self.validation_fraction)
