"""A grid of two numbers that each of many means has, so that what follows from both is computed at its corners."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
N_ALL = 4000
"""Up to so many means each is tested by itself."""
N_NODES = 24


class Cells:
    """M means on a grid of two numbers that each has.

    Args:
        share: (M,) rest / known.
        ratio: (M,) seeds / rest.
    """

    def __init__(self, share: FloatArray, ratio: FloatArray):
        self.shares, self.ratios = _nodes(share), _nodes(ratio)
        self._share, self._ratio = share, ratio

    def at(self, places: NDArray[Any], low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(P,) values of two rising functions at the lower and at the upper corner of the cells of some means."""
        i = np.searchsorted(self.shares[1:-1], self._share[places], "right")
        j = np.searchsorted(self.ratios[1:-1], self._ratio[places], "right")
        return low[i, j], high[i + 1, j + 1]


def _nodes(values: FloatArray) -> FloatArray:
    """Quantiles of some of the values, from the least to the largest of all."""
    some = np.quantile(values[:: max(1, len(values) // N_ALL)], np.linspace(0, 1, N_NODES))
    return np.concatenate([[values.min()], some[1:-1], [values.max()]])
