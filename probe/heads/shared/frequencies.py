"""Weights of classes by how many rows they have."""

from __future__ import annotations

import numpy as np

from probe.core.base import IntArray
from probe.heads.shared.head import FloatArray

WEIGHTS = ("none", "balanced", "effective")
DECAY = 0.9999


def class_weights(counts: IntArray, kind: str) -> FloatArray:
    """(K,) weights of the rows of classes that all have some, on average 1 over the rows.

    Args:
        counts: (K,) rows of each.
        kind: `none`, `balanced` or `effective`, see `probe.heads.linear.LinearProbe`.
    """
    if kind == "none":
        return np.ones(len(counts))
    found = 1 / counts if kind == "balanced" else (1 - DECAY) / (1 - DECAY**counts)
    weights: FloatArray = found * counts.sum() / (found * counts).sum()
    return weights
