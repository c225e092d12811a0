"""A share of the training rows, stratified by class."""

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
class Fraction:
    """Draws the same share of every class; the rows of 1 % are among those of 10 % of the same seed.

    Args:
        fraction: Share of the training rows, above 0 and at most 1; validation rows are among them.
        validation_fraction: Share of the drawn rows that validates.
    """

    fraction: float = 0.1
    validation_fraction: float = 0.2
    name: ClassVar[str] = "fraction"
    by_class: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fraction("validation_fraction", self.validation_fraction)
        if not 0 < self.fraction <= 1:
            raise InputError(f"fraction is {self.fraction}, expected above 0 and at most 1: 0.01 stands for 1 %")

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        labels = np.asarray(dataset.partitions["train"].labels)
        counts = np.bincount(labels, minlength=len(dataset.class_names))
        drawn = np.floor(counts * self.fraction + 0.5).astype(np.int64)
        if drawn.min() == 0:
            raise InputError(
                f"fraction {self.fraction} leaves {(drawn == 0).sum()} of {len(counts)} classes of dataset "
                f"{dataset.name} without a training row (the smallest, {dataset.class_names[counts.argmin()]}, has "
                f"{counts.min()}): set protocol.fraction to {0.5 / counts.min():.4g} or more, or take few_shot"
            )
        ranks = ranks_in_class(labels, priorities(len(labels), dataset.fingerprint, seed, "train"))
        return split_drawn(dataset, np.flatnonzero(ranks < drawn[labels]), seed, self.validation_fraction)
