"""The dataset's own partitions, as its authors cut them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from probe.core.base import Dataset, Split
from probe.protocols.shared.checks import all_rows, tests_alone


@dataclass(frozen=True)
class Official:
    """Trains on all of train, validates on all of validation, tests on all of test; the seed draws nothing."""

    name: ClassVar[str] = "official"
    by_class: ClassVar[bool] = False
    wants_train: ClassVar[bool] = False

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        if not dataset.target.learnt:
            return tests_alone(dataset)
        test = all_rows(dataset, "test")
        return Split(all_rows(dataset, "train"), all_rows(dataset, "validation"), test)
