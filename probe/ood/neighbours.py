"""Scores by the training rows that are nearest."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from probe.core.arrays import read_rows
from probe.core.base import IntArray
from probe.heads.shared.neighbours import Neighbours
from probe.ood.shared.score import Floats, Known, Rows, Score, Scorer, in_chunks

K = 50
BANK_SHARE, BANK_NEIGHBOURS = 0.01, 100


def kth_nearest(known: Known, k: int = K) -> Scorer:
    """k-NN, -|x - x_(k)|^2 for the k-th nearest training row, all rows at unit length; the last where there are fewer.

    Source: Sun, Ming, Zhu, Li, "Out-of-Distribution Detection with Deep Nearest Neighbors", 2022, arXiv 2204.06507.
    """
    neighbours = Neighbours(known.X, device=getattr(known.head, "device", "cpu"))

    def score(rows: Rows) -> Floats:
        cosines = neighbours.nearest(rows.X, k, ["cosine"])["cosine"].nearness[:, -1]
        return 2 * np.asarray(cosines, dtype=np.float64) - 2

    return score


def guided_energy(known: Known, k: int = BANK_NEIGHBOURS, bank: IntArray | None = None) -> Scorer:
    """NNGuide, the energy of a row times the mean, over its k nearest bank rows, of cosine times their own energy.

    Source: Park, Jung, Teoh, "Nearest Neighbor Guidance for Out-of-Distribution Detection", 2023, arXiv 2309.14888.
    Departure: the bank is a hundredth of the training rows, or k where that is more, evenly spaced; OpenOOD's depends
    on the order of a loader.

    Args:
        known: Training rows and head.
        k: Nearest rows.
        bank: Numbers of the training rows in the bank.
    """
    n = len(known.y)
    if bank is None:
        size = min(n, max(k, int(np.ceil(BANK_SHARE * n))))
        bank = np.linspace(0, n - 1, size).astype(np.int64)
    held = read_rows(known.X, bank)
    energies = logsumexp(known.logits(held).astype(np.float64), axis=1)
    guide = (_unit(held.astype(np.float64)) * energies[:, None]).T
    n_near = min(k, guide.shape[1])

    def chunk(X: Floats, logits: Floats) -> Floats:
        near = np.partition(_unit(X) @ guide, -n_near, axis=1)[:, -n_near:]
        found: Floats = logsumexp(logits, axis=1) * near.mean(axis=1)
        return found

    def score(rows: Rows) -> Floats:
        return in_chunks(rows, chunk)

    return score


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


SCORES = (
    Score(name="knn", fit=kth_nearest, features=True),
    Score(name="nnguide", fit=guided_energy, features=True),
)
