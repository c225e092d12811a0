"""Generalised zero-shot: some classes have no training row, and all compete on the test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.core.base import Dataset, IntArray, Rows, Split
from probe.core.errors import InputError
from probe.core.texts import one_spelling
from probe.protocols.shared.checks import all_rows, check_fraction, listing
from probe.protocols.shared.draws import priorities
from probe.protocols.shared.validation import cut_validation

LEAST_SEEN = 3
"""Classes that are not unseen: two to train, and one to stand for unseen ones where a head is chosen."""


@dataclass(frozen=True)
class GZSL:
    """Hides the training rows of unseen classes, and has others validate as if they were unseen.

    Of the classes that are seen, `pseudo_unseen` only validate, with all their training rows, beside a fraction of the
    rows of the others: so a head can be chosen for classes that it did not train on. A head that is fitted again on
    training and validation rows has seen them. All test rows test. The seed draws the classes, where they are not
    named, and the rows.

    Source: Y. Xian, C. Lampert, B. Schiele, Z. Akata, "Zero-Shot Learning: A Comprehensive Evaluation of the Good, the
    Bad and the Ugly", 2018, arXiv 1707.00600.

    Args:
        unseen: Names of the unseen classes, or their share of all, at least one.
        pseudo_unseen: Share of the seen classes that only validate, at least one.
        validation_fraction: Share of the rows of the other seen classes that validates.
    """

    unseen: float | Sequence[str] = 0.25
    pseudo_unseen: float = 0.25
    validation_fraction: float = 0.2
    name: ClassVar[str] = "gzsl"

    def __post_init__(self) -> None:
        check_fraction("validation_fraction", self.validation_fraction)
        for name in ("unseen", "pseudo_unseen"):
            share = getattr(self, name)
            if isinstance(share, int | float) and not 0 < share < 1:
                raise InputError(
                    f"{name} is {share}, expected a share of the classes between 0 and 1: set protocol.{name}=0.25, say"
                )

    def unseen_classes(self, dataset: Dataset, seed: int) -> IntArray:
        """Their codes, ascending."""
        n_classes = len(dataset.class_names)
        if isinstance(self.unseen, int | float):
            n_unseen = max(1, round(self.unseen * n_classes))
            found = self._order(dataset, seed)[:n_unseen]
        else:
            known = {one_spelling(name): code for code, name in enumerate(dataset.class_names)}
            asked = [self.unseen] if isinstance(self.unseen, str) else list(self.unseen)
            if lost := [name for name in asked if one_spelling(str(name)) not in known]:
                raise InputError(
                    f"unseen names {listing(lost)} that dataset {dataset.name} does not have, which has "
                    f"{listing(list(dataset.class_names))}: set protocol.unseen to some of these"
                )
            found = np.array(sorted({known[one_spelling(str(name))] for name in asked}), dtype=np.int64)
        if not len(found) or n_classes - len(found) < LEAST_SEEN:
            raise InputError(
                f"{len(found)} of {n_classes} classes of dataset {dataset.name} are unseen, expected at least 1, and "
                f"{LEAST_SEEN} others: set protocol.unseen"
            )
        return np.sort(found)

    def pseudo_unseen_classes(self, dataset: Dataset, seed: int) -> IntArray:
        """Codes of the seen classes that only validate, ascending."""
        order = self._order(dataset, seed)
        seen = order[~np.isin(order, self.unseen_classes(dataset, seed))]
        n_pseudo = min(max(1, round(self.pseudo_unseen * len(seen))), len(seen) - 2)
        return np.sort(seen[-n_pseudo:])

    def split(self, dataset: Dataset, seed: int) -> Split:
        """Rows that train, validate and test."""
        labels = np.asarray(dataset.partitions["train"].labels)
        pseudo = self.pseudo_unseen_classes(dataset, seed)
        left = ~np.isin(labels, np.concatenate([pseudo, self.unseen_classes(dataset, seed)]))
        train, validation = cut_validation(dataset, np.flatnonzero(left), seed, self.validation_fraction)
        held = np.sort(np.concatenate([validation.indices, np.flatnonzero(np.isin(labels, pseudo))]))
        return Split(train, Rows("train", held), all_rows(dataset, "test"))

    def _order(self, dataset: Dataset, seed: int) -> IntArray:
        chance = priorities(len(dataset.class_names), dataset.fingerprint, seed, "unseen classes")
        return np.argsort(chance, kind="stable")
