"""Validation rows, always taken from the training rows, never from test."""

from __future__ import annotations

import numpy as np

from probe.base import Dataset, IntArray, Rows
from probe.protocols.draws import priorities, ranks_in_class, spread


def cut_validation(dataset: Dataset, rows: IntArray, seed: int, fraction: float) -> tuple[Rows, Rows]:
    """Divides rows of train in two, stratified by class: `fraction` of them validate, the others train.

    A class with a single row trains only.
    """
    labels = np.asarray(dataset.partitions["train"].labels)[rows]
    counts = np.bincount(labels, minlength=len(dataset.class_names))
    n_validation = np.minimum(spread(counts, fraction), np.maximum(counts - 1, 0))
    priority = priorities(len(dataset.partitions["train"]), dataset.fingerprint, seed, "validation")[rows]
    ranks = ranks_in_class(labels, priority)
    validates = ranks < n_validation[labels]
    return Rows("train", rows[~validates]), Rows("train", rows[validates])
