"""The sets that ship with scikit-learn: digits as images, the others as vectors; two with numbers to predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.hashing import hash_bytes
from probe.core.targets.number import Number
from probe.core.targets.one_class import ONE_CLASS
from probe.datasets.shared.partitions import ArrayPartition, content_cut, make_dataset

NAMES = ("breast_cancer", "digits", "iris", "wine")
NUMBERS = {"diabetes": ["progression"], "linnerud": ["weight", "waist", "pulse"]}
"""Sets with numbers to predict, and what these are: progression of a disease after a year; three of an athlete."""


def load(name: str = "digits", test_fraction: float = 0.5, as_rows: bool = False) -> Dataset:
    """Loads a set by its name in scikit-learn and cuts a test part, which these sets do not have.

    The cut is stratified and fixed: within each class, or share of the rows by size of the number to predict, the rows
    whose content has the lowest digests are test rows. Neither a seed nor the order of the rows moves it. Digits are
    8 x 8 greyscale images.

    Args:
        name: One of `NAMES` or `NUMBERS`.
        test_fraction: Share of each class's rows that tests, in (0, 1); 0: no test part, for protocols that draw one.
        as_rows: Whether digits are rows of 64 numbers instead of images.
    """
    if name not in (known := (*NAMES, *NUMBERS)):
        raise InputError(
            f"scikit-learn dataset {name!r} is unknown, expected one of {', '.join(known)}: use one of them"
        )
    import sklearn.datasets

    loader: Callable[[], Any] = getattr(sklearn.datasets, f"load_{name}")
    bunch = loader()
    rows, target = bunch.data, Number() if name in NUMBERS else ONE_CLASS
    labels = target.held(bunch.target)
    if name == "digits" and not as_rows:
        # 17 grey levels, 0 to 16.
        rows = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    parts = {"train": np.arange(len(rows))}
    if test_fraction:
        digests = [hash_bytes(np.ascontiguousarray(row).tobytes()) for row in rows]
        test = content_cut(digests, target.strata(labels), test_fraction)
        parts = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    partitions = {
        part: ArrayPartition(rows[chosen], labels[chosen], [str(row) for row in chosen], target=target)
        for part, chosen in parts.items()
    }
    class_names = NUMBERS.get(name) or [str(c) for c in bunch.target_names]
    return make_dataset(name, class_names, partitions, target=target)
