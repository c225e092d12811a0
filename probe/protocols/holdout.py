"""Training rows divided at random into those that train and those that test, anew for every seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.core.base import Dataset, IntArray, Rows, Split
from probe.core.errors import InputError
from probe.protocols.shared.checks import check_fraction
from probe.protocols.shared.draws import priorities, ranks_in_class, spread
from probe.protocols.shared.groups import groups_of, held_out_groups
from probe.protocols.shared.validation import cut_validation, split_groups


@dataclass(frozen=True)
class Holdout:
    """Tests on a random share of the train partition, stratified by class: repeated over seeds, repeated hold-out.

    Other partitions are not touched. A class keeps at least one row for training. Where the dataset names groups, whole
    groups test, about as many rows as asked for.

    Args:
        test_fraction: Share that tests, in (0, 1).
        validation_fraction: Share of the other rows that validates; 0 where nothing is chosen.
    """

    test_fraction: float = 0.5
    validation_fraction: float = 0.2
    name: ClassVar[str] = "holdout"
    by_class: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fraction("validation_fraction", self.validation_fraction)
        if not 0 < self.test_fraction < 1:
            raise InputError(f"test_fraction is {self.test_fraction}, expected above 0 and below 1: 0.5 is half")

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        labels, groups = np.asarray(dataset.partitions["train"].labels), groups_of(dataset)
        if groups is not None:
            return self._of_groups(dataset, labels, groups, seed)
        counts = np.bincount(labels, minlength=len(dataset.class_names))
        n_test = np.minimum(spread(counts, self.test_fraction), np.maximum(counts - 1, 0))
        if not n_test.any():
            raise InputError(
                f"test_fraction {self.test_fraction} of dataset {dataset.name} is no row: set protocol.test_fraction "
                f"to {0.5 / len(labels):.4g} or more, and give classes of at least 2 rows"
            )
        tests = ranks_in_class(labels, priorities(len(labels), dataset.fingerprint, seed, "holdout")) < n_test[labels]
        train, validation = cut_validation(dataset, np.flatnonzero(~tests), seed, self.validation_fraction)
        return Split(train, validation, Rows("train", np.flatnonzero(tests)))

    def _of_groups(self, dataset: Dataset, labels: IntArray, groups: IntArray, seed: int) -> Split:
        chance = priorities(int(groups.max()) + 1, dataset.fingerprint, seed, "holdout")
        tests = held_out_groups(labels, groups, self.test_fraction, chance)
        if not tests.any():
            raise InputError(
                f"holdout tests whole groups, and each of the {groups.max() + 1} of dataset {dataset.name} holds all "
                "training rows of a class: add rows of other groups, or take protocol full"
            )
        test = Rows("train", np.flatnonzero(tests))
        return split_groups(dataset, np.flatnonzero(~tests), seed, self.validation_fraction, test)
