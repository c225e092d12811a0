"""What hyper-parameters are chosen on: always taken from the training rows, never from test."""

from __future__ import annotations

import numpy as np

from probe.core.base import Dataset, IntArray, Rows, Split
from probe.protocols.shared.checks import all_rows
from probe.protocols.shared.draws import order_by_class, priorities, ranks_in_class, spread

MIN_ROWS_PER_CLASS = 5
N_FOLDS = 5


def split_drawn(dataset: Dataset, rows: IntArray, seed: int, fraction: float) -> Split:
    """Split of a training set drawn from train, tested on the whole test partition.

    From 5 rows per class on (mean over the classes drawn) a `fraction` of the rows validates; below, nothing is
    cut off and 5 folds of the training rows take its place. A fraction of 0 gives neither.
    """
    rows = np.sort(rows)
    test = all_rows(dataset, "test")
    n_classes = len(np.unique(np.asarray(dataset.partitions["train"].labels)[rows]))
    if fraction and len(rows) < MIN_ROWS_PER_CLASS * n_classes:
        nothing = Rows("train", rows[:0])
        return Split(Rows("train", rows), nothing, test, folds_within(dataset, rows, seed))
    return Split(*cut_validation(dataset, rows, seed, fraction), test)


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
