"""Class sizes that fall exponentially, on the rows of any other protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from probe.core.base import Dataset, Rows, Split, SplitProtocol
from probe.core.errors import InputError
from probe.protocols.shared.draws import priorities, ranks_in_class


@dataclass(frozen=True)
class LongTail:
    """Keeps n_k = n_max * imbalance^(-k / (K - 1)) training rows of class k; test rows stay as they are.

    n_max is the size of the largest class among the training rows, and a class that has fewer rows than n_k keeps
    them all. Validation rows are thinned by the same shares. Classes fall in size in the order of their codes, as in
    the source; the seed draws the rows that stay, and larger factors keep subsets of what smaller ones keep.
    Source: Y. Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019, arXiv 1901.05555.

    Args:
        protocol: Whose rows are thinned.
        imbalance: Largest class over smallest class, at least 1; 10, 50 and 100 are usual.
    """

    protocol: SplitProtocol
    imbalance: float = 100.0
    name: ClassVar[str] = "long_tail"

    def __post_init__(self) -> None:
        if not self.imbalance >= 1:
            raise InputError(f"imbalance is {self.imbalance}, expected at least 1: 10, 50 and 100 are usual")

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        split = self.protocol.split(dataset, seed)
        kept = self._kept(dataset, split.train, seed)
        labels = np.asarray(dataset.partitions[split.train.partition].labels)[split.train.indices]
        lost = np.setdiff1d(labels, labels[kept])
        if len(lost):
            raise InputError(
                f"imbalance {self.imbalance} leaves {len(lost)} of {len(dataset.class_names)} classes of dataset "
                f"{dataset.name} without a training row (the largest has {np.bincount(labels).max()}): "
                f"set protocol.imbalance to {2 * np.bincount(labels).max() - 1} or less"
            )
        return replace(
            split,
            train=Rows(split.train.partition, split.train.indices[kept]),
            validation=Rows(
                split.validation.partition,
                split.validation.indices[self._kept(dataset, split.validation, seed)],
            ),
            folds=None if split.folds is None else split.folds[kept],
        )

    def _kept(self, dataset: Dataset, rows: Rows, seed: int) -> np.ndarray:
        """Marks the rows that stay, (n,)."""
        if not len(rows):
            return np.zeros(0, dtype=bool)
        partition = dataset.partitions[rows.partition]
        labels = np.asarray(partition.labels)[rows.indices]
        n_classes = len(dataset.class_names)
        n_max = np.bincount(labels).max()
        sizes = np.floor(n_max * self.imbalance ** (-np.arange(n_classes) / (n_classes - 1)) + 0.5)
        priority = priorities(len(partition), dataset.fingerprint, seed, "long tail")[rows.indices]
        return ranks_in_class(labels, priority) < sizes[labels]
