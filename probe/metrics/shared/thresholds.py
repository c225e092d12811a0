"""The threshold of split conformal prediction: how large a score of held-out rows gets at a chosen rate."""

from __future__ import annotations

import numpy as np

from probe.core.errors import InputError
from probe.metrics.shared.intervals import FloatArray

LEVEL = 0.9


def threshold(scores: FloatArray, level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n scores; infinite where there is none."""
    rank = rank_of(len(scores), level)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")


def rank_of(n_scores: int, level: float) -> int:
    """ceil((n + 1) level): which of n scores, from 1 on, is the threshold; n + 1 where none is."""
    check_level(level)
    # Without the rounding 0.9 * 10 may come out just above 9.
    return int(np.ceil(round((n_scores + 1) * level, 9)))


def check_level(level: float) -> None:
    """Refuses a level that no set can have."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}, expected between 0 and 1: 0.9 is usual")
