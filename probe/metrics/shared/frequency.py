"""Classes and labels with many, some and few training rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray

MANY, FEW = 100, 20


def by_frequency(train_counts: IntArray, tested: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Masks (K,) of what has `many`, `medium` and `few` training rows, of what is tested.

    Many are more than 100 rows, few less than 20. A group without anything that is tested is left out; with one group
    alone there is nothing to tell apart, and there is none. Source: Z. Liu et al., "Large-Scale Long-Tailed Recognition
    in an Open World", 2019, arXiv 1904.05160.
    """
    many, few = train_counts > MANY, train_counts < FEW
    groups = {"many": many, "medium": ~many & ~few, "few": few}
    groups = {name: group & tested for name, group in groups.items() if (group & tested).any()}
    return groups if len(groups) > 1 else {}
