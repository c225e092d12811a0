"""Scores by what of a row lies outside the directions in which training rows vary most."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from probe.core.arrays import row_chunks
from probe.heads.shared.moments import FLOAT64_PRODUCTS
from probe.ood.shared.score import Floats, Known, Rows, Score, Scorer, in_chunks, squared_lengths

CUT_OFF = 1e-5
"""Share of the largest singular value of W below which a direction of it is noise: heads whose rows sum to zero."""


def residual(known: Known, n_principal: int | None = None) -> Scorer:
    """-|P (x - u)|, the part of a row outside the principal space of the training rows about the origin u.

    u = -W^+ b is where all logits are 0; the principal space is spanned by the `n_principal` leading eigenvectors of
    the second moment of x - u over the training rows, by default half of D below 768, 512 below 2048, else 1000.

    Source: Wang, Li, Feng, Zhang, "ViM: Out-Of-Distribution with Virtual-logit Matching", 2022, arXiv 2203.10807.
    Departure from OpenOOD, which takes the space from validation rows for this score: training rows.
    """
    origin, outside = _outside(known, n_principal)

    def score(rows: Rows) -> Floats:
        return in_chunks(rows, lambda X, logits: -np.sqrt(squared_lengths((X - origin) @ outside)))

    return score


def virtual_logit(known: Known, n_principal: int | None = None) -> Scorer:
    """ViM, log sum_k exp(l_k) - alpha |P (x - u)|: see `residual`.

    alpha = mean largest logit / mean |P (x - u)|, over the training rows, which are read for it a second time; 0 where
    no training row has anything outside.
    """
    origin, outside = _outside(known, n_principal)
    largest, length = _largest_and_length(known, origin, outside)
    alpha = largest / length if length > 0 else 0.0

    def chunk(X: Floats, logits: Floats) -> Floats:
        found: Floats = logsumexp(logits, axis=1) - alpha * np.sqrt(squared_lengths((X - origin) @ outside))
        return found

    def score(rows: Rows) -> Floats:
        return in_chunks(rows, chunk)

    return score


def _largest_and_length(known: Known, origin: Floats, outside: Floats) -> tuple[float, float]:
    """The largest logit and |P (x - u)|, summed over the training rows.

    Of many rows products are in float32, as those of their moments are; what is added up is in float64.
    """
    assert known.linear is not None
    (W, b), n_outside = known.linear, outside.shape[1]
    narrow = known.X.dtype != np.float64 and len(known.X) * outside.size > FLOAT64_PRODUCTS
    kind = np.float32 if narrow else np.float64
    directions, at_origin = np.hstack([outside, W.T]).astype(kind), W @ origin + b
    start, largest, length = origin.astype(kind), 0.0, 0.0
    room: NDArray[Any] | None = None
    for part in row_chunks(known.X):
        X = np.asarray(known.X[part], dtype=kind)
        room = np.empty(X.shape, dtype=kind) if room is None else room
        found = np.subtract(X, start, out=room[: len(X)]) @ directions
        largest += float((found[:, n_outside:] + at_origin).max(axis=1).sum())
        length += float(np.sqrt(squared_lengths(found[:, :n_outside])).sum(dtype=np.float64))
    return largest, length


def _outside(known: Known, n_principal: int | None) -> tuple[Floats, Floats]:
    """The origin (D,), and a basis (D, D - n_principal) of what is outside the principal space about it."""
    assert known.linear is not None
    W, b = known.linear
    width, moments = W.shape[1], known.moments
    origin = -np.linalg.pinv(W, rcond=CUT_OFF) @ b
    off = moments.mean - origin
    vectors = known.once("about", lambda: np.linalg.eigh(moments.total() / moments.n_rows + np.outer(off, off))[1])
    usual = width // 2 if width < 768 else 512 if width < 2048 else 1000
    return origin, vectors[:, : width - (usual if n_principal is None else n_principal)]


SCORES = (
    Score(name="residual", fit=residual, linear=True),
    Score(name="vim", fit=virtual_logit, linear=True),
)
