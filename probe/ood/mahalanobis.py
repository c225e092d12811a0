"""Scores by distances from the class means, in units of the covariance within classes."""

from __future__ import annotations

import numpy as np

from probe.heads.shared.moments import eigenbasis
from probe.ood.shared.score import Floats, Known, Rows, Score, Scorer, in_chunks, squared_lengths


def mahalanobis(known: Known, *, relative: bool = False) -> Scorer:
    """-min_k (x - mu_k)' S^-1 (x - mu_k), with S the covariance within classes, divided by the number of rows.

    `relative` adds the squared distance (x - mu)' T^-1 (x - mu) from the mean of all rows, by their covariance T.
    Directions without variance are left out.

    Source: Lee, Lee, Lee, Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
    Attacks", 2018, arXiv 1807.03888; relative: Ren et al., "A Simple Fix to Mahalanobis Distance for Improving
    Near-OOD Detection", 2021, arXiv 2106.09022.
    """
    moments = known.moments
    within = known.once("within", lambda: _whitening(moments.within() / moments.n_rows, moments.rounding))
    total = _whitening(moments.total() / moments.n_rows, moments.rounding) if relative else None
    centres = (moments.means - moments.mean) @ within

    def chunk(X: Floats, logits: Floats) -> Floats:
        off = X - moments.mean
        z = off @ within
        squares = squared_lengths(z)[:, None] - 2 * (z @ centres.T) + squared_lengths(centres)
        background = 0.0 if total is None else squared_lengths(off @ total)
        found: Floats = background - squares.min(axis=1)
        return found

    def score(rows: Rows) -> Floats:
        return in_chunks(rows, chunk)

    return score


def relative_mahalanobis(known: Known) -> Scorer:
    """See `mahalanobis`."""
    return mahalanobis(known, relative=True)


def _whitening(covariance: Floats, rounding: float) -> Floats:
    """(D, R) whose product with its transpose is the pseudo-inverse of a covariance."""
    values, vectors = eigenbasis(covariance, rounding)
    return vectors / np.sqrt(values)


SCORES = (
    Score(name="mds", fit=mahalanobis, features=True),
    Score(name="rmds", fit=relative_mahalanobis, features=True),
)
