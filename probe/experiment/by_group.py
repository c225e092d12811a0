"""What a run on numbers says of each group of its test rows: how far off it is there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.metrics.regression import errors_by_group
from probe.metrics.shared.intervals import Interval
from probe.metrics.shared.scores.number import NumberScores

MOST_GROUPS = 200
"""A record tells of so many, those with the most test rows."""


def by_group(scores: NumberScores, names: NDArray[np.str_]) -> dict[str, Any]:
    """The mean absolute error of each column in each group, in the unit of the column, with its interval.

    Args:
        scores: Of the test rows.
        names: (N,) of their groups.
    """
    present, groups, counts = np.unique(names, return_inverse=True, return_counts=True)
    errors = errors_by_group(scores, groups)
    told = np.sort(np.argsort(-counts, kind="stable")[:MOST_GROUPS])
    found = [
        {"name": str(present[g]), "test_rows": int(counts[g]), "mae": [_facts(one) for one in errors[g]]} for g in told
    ]
    return {"n_groups": len(present), "of": found}


def _facts(interval: Interval) -> dict[str, float]:
    """Without ends where rows are too few to tell any."""
    ends = np.isfinite([interval.low, interval.high]).all()
    return vars(interval) if ends else {"value": interval.value}
