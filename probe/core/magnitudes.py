"""Numbers so large or so small that their squares are none: refused; features that hardly vary: told."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError

SAMPLE = 64
"""Rows that are looked at: how large features are, a few tell."""
MOST, LEAST, LEAST_SINGLE = 1e150, 1e-150, 1e-37
"""Not far beyond the first two squares of doubles overflow, or are 0; float32 loses digits below the third."""
LEAST_SPREAD = 1e-6
LENGTH, FLAT = 0.1, 0.05
"""Deviation of features in all below which those of outputs are looked at, and what says next to nothing there."""
LEARNT = 0.25
"""Share of the rows that a constant has wrong, of which so many have to be right for outputs to count as learnt."""


def too_large() -> InputError:
    """For features of which sums of squares are not finite."""
    return InputError(
        "features are too large, their squares overflow: set standardize=true, or divide them by a power of ten"
    )


def check_features(X: Any, *, warn: bool = True) -> None:
    """Looks at some rows of (N, ...) features that are to be fitted, or of each kind of a `RowReader`.

    Penalties, learning rates and tolerances are made for features about 1. Where they vary by less than a millionth, a
    head that has any of these may learn nothing, which shows in no loss: that is warned of.

    Args:
        X: The features.
        warn: Whether to; not of a batch, which may have rows that are alike, of a stream that varies.

    Raises:
        InputError: They are beyond what can be computed with.
    """
    kinds = list(X.arrays.values()) if hasattr(X, "arrays") else [X]
    for array in kinds:
        if array.dtype.kind != "f" or 0 in array.shape or (found := _extent(array)) is None:
            continue
        largest, spread = found
        if largest > MOST:
            raise too_large()
        if 0 < largest < (LEAST if array.dtype.itemsize > 4 else LEAST_SINGLE):
            raise InputError(
                f"features are at most {largest:.0e}, too small to compute with: multiply them by a power of ten"
            )
        if warn and 0 < spread < LEAST_SPREAD:
            # Of tokens and maps a run standardises nothing.
            remedy = "set standardize=true, or " if len(kinds) == 1 and array.ndim == 2 else ""
            warnings.warn(
                f"features vary by {spread:.0e} at most, penalties, learning rates and tolerances are made for about "
                f"1, and a head may learn nothing: {remedy}multiply them by a power of ten",
                stacklevel=4,
            )


def tell_of_flat_outputs(
    X: Any,
    codes: NDArray[Any] | None,
    fitted: tuple[NDArray[Any], NDArray[Any]],
    scaled: Callable[[NDArray[Any]], NDArray[Any]],
    searched: str,
    remedies: str,
) -> None:
    """Warns where features are so small that none of a search's linear maps makes more of them than next to nothing.

    Small outputs may still tell classes: of those that do, on the rows that are looked at, nothing is said.

    Args:
        X: (N, D) rows that were trained on.
        codes: (N,) their classes; None of numbers, whose columns have variance 1.
        fitted: Coefficients (L, K, D) and intercepts (L, K), all that the search gave.
        scaled: What the head makes of rows before it multiplies.
        searched: The search, as `Cs=[1.0]`.
        remedies: What helps, in words that a user can type.
    """
    places = np.unique(np.linspace(0, len(X) - 1, SAMPLE).astype(int))
    rows = np.asarray(X[places], dtype=np.float64)
    if np.ptp(rows, axis=0).max(initial=0) < LEAST_SPREAD:
        return  # `check_features` has told of it
    rows = scaled(rows)
    spread = float(np.linalg.norm(rows.std(axis=0)))
    if not 0 < spread < LENGTH:
        return
    rows = rows.astype(fitted[0].dtype)  # else a product makes a copy of coefficients in the other precision
    outputs = [(rows @ coef.T, intercept) for coef, intercept in zip(*fitted, strict=True)]
    moved = max(float(part.std(axis=0).max(initial=0)) for part, _ in outputs)
    if moved < FLAT and (codes is None or not _tell_classes([a + b for a, b in outputs], codes[places])):
        warnings.warn(
            f"features vary by {spread:.0e} in all, which is too little for {searched}: outputs of the training rows "
            f"differ by {moved:.0e} and may be at chance: set {remedies}",
            stacklevel=5,
        )


def _tell_classes(scores: list[NDArray[Any]], codes: NDArray[Any]) -> bool:
    """Whether one of several (n, K) scores, (n, 1) of two classes, is right clearly more often than a constant."""
    constant = float(np.unique(codes, return_counts=True)[1].max() / len(codes))
    found = [score.argmax(axis=1) if score.shape[1] > 1 else score[:, 0] > 0 for score in scores]
    return max(float((one == codes).mean()) for one in found) > constant + LEARNT * (1 - constant)


def _extent(array: Any) -> tuple[float, float] | None:
    """The largest number of some rows, whatever its sign, and how far one place of the last axis varies at most.

    None where numbers are missing or infinite, which is refused where they are read.
    """
    rows = np.unique(np.linspace(0, len(array) - 1, SAMPLE).astype(int))
    low, high = np.full(array.shape[-1:], np.inf), np.full(array.shape[-1:], -np.inf)
    for row in rows.tolist():  # tokens of many rows at once would take more than a fit does
        part = np.asarray(array[row : row + 1]).reshape(-1, len(low))
        if len(part):
            np.minimum(low, part.min(axis=0), out=low)
            np.maximum(high, part.max(axis=0), out=high)
    if not np.isfinite([low, high]).all():
        return None
    return float(max(-low.min(initial=0), high.max(initial=0))), float((high - low).max(initial=0))


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
