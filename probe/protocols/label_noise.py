"""Wrong training labels, on the rows of any other protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from probe.core.base import Dataset, Split, SplitProtocol
from probe.core.errors import InputError
from probe.protocols.shared.draws import priorities


@dataclass(frozen=True)
class LabelNoise:
    """Gives each row of train another label with probability `rate`, any other class alike (symmetric noise).

    Rows that train and rows that validate are both affected: who has noisy labels has no clean ones to choose on.
    Rows that test keep their labels. The wrong rows of a lower rate are among those of a higher one, with the same
    wrong labels.

    Args:
        protocol: Whose rows are relabelled.
        rate: Share of wrong labels, at least 0 and below 1 - 1 / K, where nothing would be left to learn.
    """

    protocol: SplitProtocol
    rate: float = 0.2
    name: ClassVar[str] = "label_noise"

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test, with `train_labels`."""
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
