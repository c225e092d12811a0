"""What hyper-parameters are chosen on: always taken from the training rows, never from test."""

from __future__ import annotations

import numpy as np

from probe.core.base import Dataset, IntArray, Rows, Split
from probe.protocols.shared.checks import all_rows
from probe.protocols.shared.draws import order_by_class, priorities, ranks_in_class, spread
from probe.protocols.shared.groups import grouped_folds, groups_of, held_out_groups, rows_by_class

MIN_ROWS_PER_CLASS = 5
N_FOLDS = 5


def split_drawn(dataset: Dataset, rows: IntArray, seed: int, fraction: float) -> Split:
    """Split of a training set drawn from train, tested on the whole test partition.

    From 5 rows per class on (mean over the classes drawn) a `fraction` of the rows validates; below, nothing is
    cut off and 5 folds of the training rows take its place. A fraction of 0 gives neither. Where the dataset names
    groups, these take the place of rows: see `split_groups`.
    """
    rows = np.sort(rows)
    test = all_rows(dataset, "test")
    if groups_of(dataset) is not None:
        return split_groups(dataset, rows, seed, fraction, test)
    n_classes = len(np.unique(np.asarray(dataset.partitions["train"].labels)[rows]))
    if fraction and len(rows) < MIN_ROWS_PER_CLASS * n_classes:
        nothing = Rows("train", rows[:0])
        return Split(Rows("train", rows), nothing, test, folds_within(dataset, rows, seed))
    return Split(*cut_validation(dataset, rows, seed, fraction), test)


def split_groups(dataset: Dataset, rows: IntArray, seed: int, fraction: float, test: Rows) -> Split:
    """Split of rows of train by the groups that the dataset names: each trains, validates or is in a fold as a whole.

    From 5 groups per class on (mean over the classes of the rows) about a `fraction` of the rows validates; below, or
    where the fraction is 0, folds take its place: a head that chose by itself would do so on rows of one group.
    """
    every = groups_of(dataset)
    assert every is not None
    labels, groups = np.asarray(dataset.partitions["train"].labels)[rows], every[rows]
    held = np.zeros(len(rows), dtype=bool)
    _, table = rows_by_class(labels, groups)
    if fraction and (table > 0).sum(axis=0).mean() >= MIN_ROWS_PER_CLASS:
        chance = priorities(int(every.max()) + 1, dataset.fingerprint, seed, "validation")
        held = held_out_groups(labels, groups, fraction, chance)
    folds = None if held.any() else grouped_folds(labels, groups)
    return Split(Rows("train", rows[~held]), Rows("train", rows[held]), test, folds)


def cut_validation(dataset: Dataset, rows: IntArray, seed: int, fraction: float) -> tuple[Rows, Rows]:
    """Divides rows of train in two, stratified by class: `fraction` of them validate, the others train.

    A class with a single row trains only.
    """
    labels, priority = _labels_and_priorities(dataset, rows, seed)
    counts = np.bincount(labels, minlength=len(dataset.class_names))
    n_validation = np.minimum(spread(counts, fraction), np.maximum(counts - 1, 0))
    validates = ranks_in_class(labels, priority) < n_validation[labels]
    return Rows("train", rows[~validates]), Rows("train", rows[validates])


def folds_within(dataset: Dataset, rows: IntArray, seed: int) -> IntArray | None:
    """Fold 0..4 of each row, stratified by class, (n,); None where no class has two rows.

    The only row of a class is never held out (-1), and no fold holds all rows of a class.
    """
    labels, priority = _labels_and_priorities(dataset, rows, seed)
    order = order_by_class(labels, priority)
    order = order[np.bincount(labels)[labels[order]] > 1]
    folds = np.full(len(rows), -1, dtype=np.int64)
    folds[order] = np.arange(len(order)) % N_FOLDS
    return folds if len(order) else None


def _labels_and_priorities(dataset: Dataset, rows: IntArray, seed: int) -> tuple[IntArray, np.ndarray]:
    """Those of the rows; a row keeps its priority whichever others are drawn with it."""
    labels = np.asarray(dataset.partitions["train"].labels)
    return labels[rows], priorities(len(labels), dataset.fingerprint, seed, "validation")[rows]
