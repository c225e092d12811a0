"""Masks of tokens: which of a row's places hold one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from probe.core.arrays import RowReader
from probe.core.errors import InputError
from probe.core.ragged import MASK, lengths_of


def with_mask(given: Mapping[str, Any], rows: RowReader, n_dropped: int) -> RowReader:
    """Rows with the mask of their tokens, where one was given beside them and fits.

    Args:
        given: Kinds, perhaps a `mask`.
        rows: The kinds, checked.
        n_dropped: How many first tokens are not read.
    """
    if (mask := given.get(MASK)) is None:
        return rows
    check_mask(mask, rows.arrays["tokens"].shape[:2], n_dropped)
    return RowReader({**rows.arrays, MASK: mask})


def check_mask(mask: Any, shape: tuple[int, ...], n_dropped: int) -> None:
    """Refuses masks that do not fit their tokens, and rows of which none is left.

    Args:
        mask: True where there is a token.
        shape: (N, T) of the tokens.
        n_dropped: How many first tokens are not read.
    """
    if mask.shape != shape or np.dtype(mask.dtype) != np.bool_:
        raise InputError(
            f"mask has shape {tuple(mask.shape)} and dtype {mask.dtype}, expected booleans of shape {tuple(shape)}: "
            "give True where there is a token"
        )
    lengths = lengths_of(mask)
    left = np.asarray(mask)[:, n_dropped:].any(axis=1) if lengths is None else lengths > n_dropped
    if not left.all():
        raise InputError(
            f"the mask of row {int(np.argmin(left))} leaves no token to pool"
            + (f" behind the {n_dropped} of the prefix" if n_dropped else "")
            + ": leave that row out"
        )


def check_both_masked(rows: RowReader, validation: RowReader | None) -> None:
    """Refuses a mask of training rows alone, or of validation rows alone."""
    if validation is not None and (MASK in validation.arrays) != (MASK in rows.arrays):
        raise InputError("a mask was given for some of the training and validation rows: give it for both")
