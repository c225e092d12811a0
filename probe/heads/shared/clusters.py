"""Clusters of rows by cosine: k-means within classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray

Float64Array = NDArray[np.float64]
MAX_ROUNDS, TOLERANCE = 35, 1e-3


def n_clusters(counts: IntArray, least: int) -> IntArray:
    """(K,) clusters of each class: as many as hold max(smallest class, `least`) rows each, at least 1."""
    present = counts[counts > 0]
    size = max(int(present.min()) if len(present) else 1, least)
    found: IntArray = np.maximum(counts // size, 1)
    return found


def cosine_clusters(X: Float64Array, starts: IntArray) -> tuple[IntArray, Float64Array]:
    """Cluster of each row, (N,), and the centres, (k, D): plain means, to which the nearest by cosine belong.

    Args:
        X: (N, D) rows.
        starts: (k,) numbers of the rows that are the first centres.
    """
    centres, rows = X[starts].copy(), _unit(X)
    places = np.zeros(len(X), dtype=np.int64)
    for _ in range(MAX_ROUNDS):
        places = (rows @ _unit(centres).T).argmax(axis=1)
        before = centres.copy()
        for k in np.unique(places):
            centres[k] = X[places == k].mean(axis=0)
        if np.linalg.norm(centres - before, axis=1).sum() ** 2 < TOLERANCE:
            break
    return places, centres


def _unit(rows: Float64Array) -> Float64Array:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
