"""Testing on another dataset: its test rows take the place of the own ones, its labels are told as the first's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from probe.core.base import Dataset, IntArray, Rows, Split
from probe.core.errors import InputError
from probe.core.targets.mask import HasMasks, Mask
from probe.core.texts import one_spelling
from probe.datasets.shared.mask_rows import RecodedPartition
from probe.protocols.shared.checks import listing

if TYPE_CHECKING:
    from probe.features.store import Features

PARTITION = "test"


@dataclass(frozen=True)
class Transfer:
    """The test partition of another dataset, in terms of the one that the head is fitted on.

    The head predicts among all classes that it knows, also where the other dataset has only some of them.

    Attributes:
        dataset: The other dataset.
            Of images with masks these go by the classes of the first already.
        codes: Code of each of its classes in the first dataset, -1 where none of its test rows has the class; of
            numbers, the place in it of each column of the first.
    """

    dataset: Dataset
    codes: IntArray

    def split(self, split: Split) -> Split:
        """The same rows train and validate; all test rows of the other dataset test."""
        if PARTITION in (split.train.partition, split.validation.partition):
            raise InputError("rows of partition test train or validate here, which test_on replaces: draw other rows")
        return replace(split, test=Rows(PARTITION, np.arange(len(self.dataset.partitions[PARTITION]), dtype=np.int64)))

    def features(self, features: Features) -> Features:
        """Its features with labels of the first dataset."""
        labels, test = features.labels, self.dataset.partitions[PARTITION]
        if isinstance(test, HasMasks):
            return replace(features, labels=np.asarray(test.labels))
        if self.dataset.target.exclusive:
            return replace(features, labels=self.codes[labels])
        return replace(features, labels=labels[:, self.codes] if len(self.codes) > 1 else labels)


def transfer(dataset: Dataset, other: Dataset) -> Transfer:
    """Matches the classes, or the columns of numbers, of two datasets by name.

    Raises:
        InputError: The other one cannot be tested on, has test rows of a class that the first does not know, or has
            other columns.
    """
    if PARTITION not in other.partitions:
        raise InputError(
            f"dataset {other.name} has no partition test, only {sorted(other.partitions)}: give one to test_on that has"
        )
    labels = np.asarray(other.partitions[PARTITION].labels)
    if problems := other.target.faults(PARTITION, labels, other.class_names):
        raise InputError(
            f"dataset {other.name} cannot be tested on: {'; '.join(problems)}: mend the data or its labels"
        )
    masks = isinstance(other.partitions[PARTITION], HasMasks)
    if not masks and not other.target.exclusive:
        return Transfer(other, _places(dataset, other))
    known = {one_spelling(name): code for code, name in enumerate(dataset.class_names)}
    tested = np.flatnonzero(labels.sum(axis=0)) if masks else np.unique(labels)
    unknown = [other.class_names[k] for k in tested if one_spelling(other.class_names[k]) not in known]
    if unknown:
        raise InputError(
            f"dataset {other.name} tests {listing(unknown)} that dataset {dataset.name} does not know, which has "
            f"{listing(list(dataset.class_names))}: give a dataset to test_on whose class names are among these"
        )
    codes = np.full(len(other.class_names), -1, dtype=np.int64)
    codes[tested] = [known[one_spelling(other.class_names[k])] for k in tested]
    return Transfer(_told_as(dataset, other, codes) if masks else other, codes)


def _told_as(dataset: Dataset, other: Dataset, codes: IntArray) -> Dataset:
    """The test images of another dataset with masks of the classes of the first."""
    assert isinstance(dataset.target, Mask)
    assert isinstance(other.target, Mask)
    target = Mask(other.target.ignored_codes, dataset.target.background)
    test = RecodedPartition(other.partitions[PARTITION], codes, len(dataset.class_names))
    return replace(other, class_names=dataset.class_names, partitions={PARTITION: test}, target=target)


def _places(dataset: Dataset, other: Dataset) -> IntArray:
    """Where each column of numbers of a dataset stands in the other."""
    there = {one_spelling(name): place for place, name in enumerate(other.class_names)}
    own = [one_spelling(name) for name in dataset.class_names]
    units = dict(zip(own, dataset.target.facts.get("units", ()), strict=False))
    others = dict(zip(there, other.target.facts.get("units", ()), strict=False))
    differ = [name for name in own if units.get(name, "") != others.get(name, "")]
    if set(own) != set(there) or differ:
        what = f"{', '.join(differ)} in another unit" if set(own) == set(there) else ", ".join(other.class_names)
        raise InputError(
            f"dataset {other.name} has {what}, dataset {dataset.name} predicts {', '.join(dataset.class_names)}: give "
            "a dataset to test_on with the same columns in the same units"
        )
    return np.array([there[name] for name in own], dtype=np.int64)
