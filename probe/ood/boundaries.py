"""Scores by where a row stands to the boundaries and weight vectors of a linear head."""

from __future__ import annotations

import numpy as np

from probe.ood.shared.score import Floats, Known, Rows, Score, Scorer, in_chunks, squared_lengths

ALPHA = 1e-3


def distance_to_boundaries(known: Known, *, about_mean: bool = True) -> Scorer:
    """fDBD, mean distance of a row to the decision boundaries of its class, over its distance from the training mean.

    sum over k of (l_c - l_k) / |w_c - w_k| / |x - mu| for the class c of the largest logit; |x| in place of |x - mu|
    unless `about_mean`.

    Source: Liu, Qin, "Fast Decision Boundary based Out-of-Distribution Detector", 2024, arXiv 2312.11536.
    """
    assert known.linear is not None
    W, mean = known.linear[0], known.moments.mean if about_mean else np.zeros(known.X.shape[1])
    apart = np.stack([np.linalg.norm(W - w, axis=1) for w in W])  # not at once: (K, K, D) is large
    apart[apart == 0] = 1.0

    def chunk(X: Floats, logits: Floats) -> Floats:
        best = logits.argmax(axis=1)
        distances = (logits.max(axis=1, keepdims=True) - logits) / apart[best]
        found: Floats = distances.sum(axis=1) / _length(X - mean)
        return found

    def score(rows: Rows) -> Floats:
        return in_chunks(rows, chunk)

    return score


def nearness_to_weights(known: Known, alpha: float = ALPHA) -> Scorer:
    """NCI, w_c.(x - mu) / |x - mu| + alpha |x|_1, for the class c of the largest logit and the training mean mu.

    Source: Liu, Qin, "Detecting Out-of-distribution through the Lens of Neural Collapse", 2025, arXiv 2311.01479.
    alpha is fixed here: OpenOOD chooses it on rows of unknown classes.
    """
    assert known.linear is not None
    W, mean = known.linear[0], known.moments.mean

    def chunk(X: Floats, logits: Floats) -> Floats:
        off = X - mean
        along = (W[logits.argmax(axis=1)] * off).sum(axis=1)
        found: Floats = along / _length(off) + alpha * np.abs(X).sum(axis=1)
        return found

    def score(rows: Rows) -> Floats:
        return in_chunks(rows, chunk)

    return score


def _length(rows: Floats) -> Floats:
    """(n,) norms; that of a row of zeros as the least number above 0, since all that is divided by it is 0 too."""
    return np.maximum(np.sqrt(squared_lengths(rows)), np.finfo(np.float64).tiny)


SCORES = (
    Score(name="fdbd", fit=distance_to_boundaries, linear=True),
    Score(name="nci", fit=nearness_to_weights, linear=True),
)
