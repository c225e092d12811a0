"""Numbers so large or so small that their squares are none: refused; features that hardly vary: told."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError

SAMPLE = 64
"""Rows that are looked at: how large features are, a few tell."""
LEAST, MOST = 1e-37, 1e150
"""float32 has all of its digits down to the first; squares of doubles are 0, or overflow, not far beyond the second."""
LEAST_SPREAD = 1e-6
REMEDY = "set standardize=true, or {} them by a power of ten"


def too_large() -> InputError:
    """For features of which sums of squares are not finite."""
    return InputError(f"features are too large, their squares overflow: {REMEDY.format('divide')}")


def check_features(X: Any) -> None:
    """Looks at some rows of (N, ...) features that are to be fitted, or of each kind of a `RowReader`.

    Penalties, learning rates and tolerances are made for features about 1. Where they vary by less than a millionth, a
    head that has any of these may learn nothing, which shows in no loss: that is warned of.

    Raises:
        InputError: They are beyond what can be computed with.
    """
    for array in X.arrays.values() if hasattr(X, "arrays") else [X]:
        if array.dtype.kind != "f" or not len(array):
            continue
        rows = np.unique(np.linspace(0, len(array) - 1, SAMPLE).astype(int))
        flat = np.asarray(array[rows], dtype=np.float64).reshape(len(rows), -1)
        if not np.isfinite(flat).all():  # refused where they are read
            continue
        largest = float(np.abs(flat).max(initial=0))
        if largest > MOST:
            raise too_large()
        if 0 < largest < LEAST:
            raise InputError(
                f"features are at most {largest:.0e}, whose squares are 0: multiply them by a power of ten"
            )
        spread = float(np.ptp(flat, axis=0).max(initial=0))
        if 0 < spread < LEAST_SPREAD:
            warnings.warn(
                f"features vary by {spread:.0e} at most, penalties, learning rates and tolerances are made for about "
                f"1, and a head may learn nothing: {REMEDY.format('multiply')}",
                stacklevel=4,
            )


def check_numbers(Y: NDArray[np.float64]) -> None:
    """Refuses columns of finite numbers to predict (N, Q) that cannot be computed with.

    Raises:
        InputError: With the column's largest number.
    """
    for largest in np.abs(Y).max(axis=0, initial=0).tolist():
        if largest > MOST:
            raise InputError(
                f"y holds {largest:.0e}, and squares of numbers to predict overflow: divide them by a power of ten"
            )
        if 0 < largest < LEAST:
            raise InputError(
                f"y is at most {largest:.0e}, and squares of numbers to predict are 0: multiply them by a power of ten"
            )
