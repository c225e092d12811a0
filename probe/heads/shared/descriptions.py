"""Descriptions of classes by attributes: a row of numbers for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.base import IntArray
from probe.core.errors import InputError


def read_attributes(given: str | ArrayLike) -> NDArray[np.float64]:
    """(K, A) float64, NaN where a class has none.

    Args:
        given: The numbers, or a file of them: `.npy`, or `.csv` with a header and the names of the classes first, in
            the order of their codes.

    Raises:
        InputError: It is none.
    """
    found: Any = given
    if isinstance(given, str):
        path = Path(given).expanduser()
        try:
            found = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _table(path)
        except (OSError, ValueError) as error:
            raise InputError(
                f"attributes {given} cannot be read ({error}), expected a .npy of (classes, attributes), or a .csv "
                "with the name of a class and numbers in each line: give one"
            ) from error
    numbers = np.asarray(found, dtype=np.float64)
    if numbers.ndim != 2 or 0 in numbers.shape:
        raise InputError(f"attributes have shape {numbers.shape}, expected (classes, attributes): give a row per class")
    return numbers


def _table(path: Path) -> NDArray[np.float64]:
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    return np.array([[float(word) if word.strip() else np.nan for word in words[1:]] for words in lines])


def described(numbers: NDArray[np.float64], codes: IntArray) -> NDArray[np.float64]:
    """The descriptions, of which every class has a whole one.

    Args:
        numbers: (K, A).
        codes: Of the classes that have rows.

    Raises:
        InputError: A class has none.
    """
    if codes.dtype.kind not in "iu" or codes.min() < 0:
        raise InputError(
            "y holds labels that are no class codes, descriptions are in their order: give codes from 0 on"
        )
    lacking = [int(k) for k in range(max(len(numbers), int(codes.max()) + 1))
               if k >= len(numbers) or not np.isfinite(numbers[k]).all()]  # fmt: skip
    if lacking:
        raise InputError(
            f"{len(lacking)} classes have no whole description, the first is class {lacking[0]} of "
            f"{max(len(numbers), int(codes.max()) + 1)}: give a row of numbers for each, unseen ones too"
        )
    return numbers
