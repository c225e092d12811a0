"""Every training row tested once, over as many runs as there are folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.core.base import Dataset, IntArray, Rows, Split
from probe.core.errors import InputError
from probe.protocols.shared.checks import check_labels_fit_folds
from probe.protocols.shared.draws import order_by_class, priorities
from probe.protocols.shared.groups import groups_of, rows_by_class, share_out


@dataclass(frozen=True)
class CrossValidation:
    """Divides the train partition into folds: one tests, the next validates, the others train.

    Sweep `protocol.fold=0,1,2,3,4` with one seed to test every row once. Folds are stratified by class; where the
    partition has `groups` (an (N,) array, such as patients or scenes), no group is in two folds. The partitions test
    and validation, if any, are not touched.

    Args:
        n_folds: At least 3.
        fold: Which one tests, 0..n_folds - 1.
    """

    n_folds: int = 5
    fold: int = 0
    name: ClassVar[str] = "cross_validation"
    by_class: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n_folds < 3 or not 0 <= self.fold < self.n_folds:
            raise InputError(
                f"n_folds is {self.n_folds} and fold {self.fold}, expected at least 3 folds (one tests, one validates) "
                "and a fold in 0..n_folds - 1: set protocol.n_folds and protocol.fold"
            )

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        labels, groups = np.asarray(dataset.partitions["train"].labels), groups_of(dataset)
        if groups is None:
            folds = self._stratified(dataset, labels, seed)
        else:
            folds = self._grouped(dataset, labels, groups, seed)
        tests, validates = folds == self.fold, folds == (self.fold + 1) % self.n_folds
        train, validation, test = (
            Rows("train", np.flatnonzero(mask)) for mask in (~tests & ~validates, validates, tests)
        )
        return Split(train, validation, test)

    def _stratified(self, dataset: Dataset, labels: IntArray, seed: int) -> IntArray:
        """Fold of each row: classes are dealt out one after the other, so fold sizes differ by one at most."""
        check_labels_fit_folds(dataset, labels, self.n_folds)
        folds = np.empty(len(labels), dtype=np.int64)
        order = order_by_class(labels, priorities(len(labels), dataset.fingerprint, seed, "folds"))
        folds[order] = np.arange(len(labels)) % self.n_folds
        return folds

    def _grouped(self, dataset: Dataset, labels: IntArray, groups: IntArray, seed: int) -> IntArray:
        """Fold of each row: the largest group first, each to the fold that it leaves nearest to equal shares."""
        n_groups = int(groups.max()) + 1
        if n_groups < self.n_folds:
            raise InputError(
                f"dataset {dataset.name} has {n_groups} groups, too few for {self.n_folds} folds, one of which would "
                f"be empty: set protocol.n_folds to {n_groups} or less"
            )
        _, table = rows_by_class(labels, groups)
        chance = priorities(n_groups, dataset.fingerprint, seed, "folds")
        largest_first = np.lexsort((chance, -table.sum(axis=1)))
        return share_out(table, [1.0] * self.n_folds, largest_first)[groups]
