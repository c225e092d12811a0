"""The rows that a head spares to choose on where it is given none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from probe.core.base import IntArray

HELD_OUT = "a tenth of the training rows"
"""What `selection_` says where no validation rows were given."""


def hold_out(codes: IntArray, random_state: int | None) -> NDArray[np.bool_]:
    """(N,) marks a seeded tenth of each class for validation: at least one row of it, and never its only one."""
    random = check_random_state(random_state)
    marks = np.zeros(len(codes), dtype=bool)
    for k in np.unique(codes):
        rows = random.permutation(np.flatnonzero(codes == k))
        marks[rows[: min(max(1, round(0.1 * len(rows))), len(rows) - 1)]] = True
    return marks
