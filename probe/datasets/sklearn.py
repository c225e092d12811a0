"""The classification sets that ship with scikit-learn: digits as images, the others as rows of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.hashing import hash_bytes
from probe.datasets.shared.partitions import ArrayPartition, content_cut, make_dataset

NAMES = ("breast_cancer", "digits", "iris", "wine")


def load(name: str = "digits", test_fraction: float = 0.5, as_rows: bool = False) -> Dataset:
    """Loads a set by its name in scikit-learn and cuts a test part, which these sets do not have.

    The cut is stratified and fixed: within each class, the rows whose content has the lowest digests are test rows.
    Neither a seed nor the order of the rows moves it. Digits are 8 x 8 greyscale images.

    Args:
        name: One of `NAMES`.
        test_fraction: Share of each class's rows that tests, in (0, 1); 0: no test part, for protocols that draw one.
        as_rows: Whether digits are rows of 64 numbers instead of images.
    """
    if name not in NAMES:
        raise InputError(
            f"scikit-learn dataset {name!r} is unknown, expected one of {', '.join(NAMES)}: use one of them"
        )
    import sklearn.datasets

    loader: Callable[[], Any] = getattr(sklearn.datasets, f"load_{name}")
    bunch = loader()
    rows = bunch.data
    if name == "digits" and not as_rows:
        # 17 grey levels, 0 to 16.
        rows = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    parts = {"train": np.arange(len(rows))}
    if test_fraction:
        digests = [hash_bytes(np.ascontiguousarray(row).tobytes()) for row in rows]
        test = content_cut(digests, bunch.target, test_fraction)
        parts = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    partitions = {
        part: ArrayPartition(rows[chosen], bunch.target[chosen], [str(row) for row in chosen])
        for part, chosen in parts.items()
    }
    class_names = tuple(str(c) for c in bunch.target_names)
    return make_dataset(name, class_names, partitions)
