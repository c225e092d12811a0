"""What every protocol refuses before anything slow starts."""

from __future__ import annotations

import numpy as np

from probe.core.base import Dataset, IntArray, Rows, Split
from probe.core.errors import InputError


def check_dataset(dataset: Dataset) -> None:
    """Refuses a dataset that nothing can be measured on; everything wrong with it is reported together."""
    if faults := dataset.faults():
        raise InputError(f"dataset {dataset.name} cannot be used: {'; '.join(faults)}: mend the data or its labels")


def listing(names: list[str]) -> str:
    """`class a`, or `3 classes (a, b, c)`, cut after five names."""
    if len(names) == 1:
        return f"class {names[0]}"
    return f"{len(names)} classes ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"


def all_rows(dataset: Dataset, partition: str) -> Rows:
    """Every row of a partition, which must be there."""
    if partition not in dataset.partitions:
        raise InputError(
            f"dataset {dataset.name} has no partition {partition}, only {sorted(dataset.partitions)}: "
            "set protocol=holdout or protocol=cross_validation, which draw test rows from train"
            if partition == "test"
            else f"dataset {dataset.name} has no partition {partition}, only {sorted(dataset.partitions)}: "
            "take protocol full, which cuts validation rows from train"
        )
    return Rows(partition, np.arange(len(dataset.partitions[partition]), dtype=np.int64))


def tests_alone(dataset: Dataset) -> Split:
    """All test rows, and none that train or validate, of a dataset from which nothing is learnt."""
    test = all_rows(dataset, "test")
    nothing = Rows("test", test.indices[:0])
    return Split(nothing, nothing, test)


def check_fraction(name: str, value: float) -> None:
    """Refuses a validation fraction outside [0, 0.5]: no more rows validate than train."""
    if not 0 <= value <= 0.5:
        raise InputError(
            f"{name} is {value}, expected from 0 to 0.5, so that no more rows validate than train: 0.2 is usual"
        )


def check_labels_fit_folds(dataset: Dataset, labels: IntArray, n_folds: int) -> None:
    """Refuses folds that are empty, or that can take all rows of a class out of training."""
    counts = np.bincount(labels, minlength=len(dataset.class_names))
    if len(labels) < n_folds:
        raise InputError(
            f"dataset {dataset.name} has {len(labels)} training rows, too few for {n_folds} folds: "
            f"set protocol.n_folds to {len(labels)} or less"
        )
    if counts.min() < 3:
        raise InputError(
            f"class {dataset.class_names[counts.argmin()]} of dataset {dataset.name} has {counts.min()} training rows, "
            "cross-validation needs 3 of each class (to test, to validate and to train): add rows or drop the class"
        )
