"""Wrong training labels, on the rows of any other protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.special import ndtri

from probe.core.base import Dataset, Split, SplitProtocol
from probe.core.errors import InputError
from probe.core.targets.number import columns_of
from probe.protocols.shared.draws import priorities
from probe.protocols.shared.strata import labels_of


@dataclass(frozen=True)
class LabelNoise:
    """Gives each row of train another label with probability `rate`, any other class alike (symmetric noise).

    Rows that train and rows that validate are both affected: who has noisy labels has no clean ones to choose on.
    Rows that test keep their labels. The wrong rows of a lower rate are among those of a higher one, with the same
    wrong labels.

    To numbers to predict, `additive` adds normal noise instead, independent in each column; that of another amount is
    the same, larger or smaller.

    Args:
        protocol: Whose rows are relabelled.
        rate: Share of wrong labels, at least 0 and below 1 - 1 / K, where nothing would be left to learn.
        additive: Of numbers, the standard deviation of the noise, as a share of that of the numbers of train.
    """

    protocol: SplitProtocol
    rate: float = 0.2
    additive: float | None = None
    name: ClassVar[str] = "label_noise"

    def __post_init__(self) -> None:
        if self.additive is not None and not 0 <= self.additive < np.inf:
            raise InputError(f"additive is {self.additive}, expected a number from 0: set protocol.additive=0.5, say")

    @property
    def by_class(self) -> bool:
        """Whether it needs one class per row: noise that is added does not, where the rows' protocol does not."""
        return self.additive is None or getattr(self.protocol, "by_class", True)

    @property
    def by_share(self) -> bool:
        """Whether shares of numbers serve as classes, as they do for the rows' protocol."""
        return self.additive is not None and getattr(self.protocol, "by_share", False)

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test, with `train_labels`."""
        if self.additive is not None:
            return self._with_noise(dataset, seed, self.additive)
        n_classes = len(dataset.class_names)
        if not 0 <= self.rate < 1 - 1 / n_classes:
            raise InputError(
                f"rate is {self.rate}, expected at least 0 and below {1 - 1 / n_classes:.4g} with the {n_classes} "
                f"classes of dataset {dataset.name}: set protocol.rate"
            )
        split = self.protocol.split(dataset, seed)
        labels = np.asarray(dataset.partitions["train"].labels, dtype=np.int64)
        chance = priorities(len(labels), dataset.fingerprint, seed, "label noise") >> np.uint64(11)
        flips = chance.astype(np.float64) * 2.0**-53 < self.rate
        shift = priorities(len(labels), dataset.fingerprint, seed, "wrong label") % np.uint64(n_classes - 1)
        wrong = (labels + 1 + shift.astype(np.int64)) % n_classes
        return replace(split, train_labels=np.where(flips, wrong, labels))

    def _with_noise(self, dataset: Dataset, seed: int, additive: float) -> Split:
        numbers = labels_of(dataset, "train")
        if numbers.dtype.kind != "f":
            raise InputError(
                f"additive is {additive}, which is noise for numbers to predict, dataset {dataset.name} has none: set "
                "protocol.rate and leave protocol.additive out"
            )
        columns, noise = columns_of(numbers), []
        for q, deviation in enumerate(columns.std(axis=0)):
            chance = priorities(len(columns), dataset.fingerprint, seed, f"additive noise {q}") >> np.uint64(11)
            noise.append(additive * deviation * ndtri((chance.astype(np.float64) + 0.5) * 2.0**-53))
        noisy = columns + np.stack(noise, axis=1)
        return replace(self.protocol.split(dataset, seed), train_labels=noisy.reshape(numbers.shape))
