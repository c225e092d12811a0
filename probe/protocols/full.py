"""All training rows, with a validation part cut from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from probe.core.base import Dataset, Split
from probe.protocols.shared.checks import all_rows, check_fraction, tests_alone
from probe.protocols.shared.validation import split_drawn


@dataclass(frozen=True)
class Full:
    """Trains on the whole train partition and tests on the whole test partition.

    Args:
        validation_fraction: Share of train that validates, stratified by class; every class keeps a training row.
            With fewer than 5 rows per class folds of the training rows take its place.
    """

    validation_fraction: float = 0.2
    name: ClassVar[str] = "full"
    by_class: ClassVar[bool] = False
    wants_train: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fraction("validation_fraction", self.validation_fraction)

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        if not dataset.target.learnt:
            return tests_alone(dataset)
        rows = all_rows(dataset, "train").indices
        return split_drawn(dataset, rows, seed, self.validation_fraction)
