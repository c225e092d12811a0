"""Neural collapse: how near the features of a head's rows are to one point per class, and these to a simplex.

Source: Papyan, Han, Donoho, "Prevalence of neural collapse during the terminal phase of deep learning training", 2020,
arXiv 2008.08186. The global mean is that of the class means, so that no class counts more for its rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.metrics.shared.intervals import FloatArray

CUT_OFF = 1e-9
"""Share of the largest eigenvalue of the scatter between classes below which one is rounding."""


@dataclass(frozen=True)
class Structure:
    """What minimises |W H - Y|^2 / (2 N) + lambda_W |W|^2 / 2 + lambda_H |H|^2 / 2 over features H and weights W.

    Vectors of different classes are orthogonal; of class k, (K,) each, with 0 for one that has collapsed.

    Attributes:
        weights: |w_k|^2.
        features: |h_k|^2.
        products: w_k.h_k.
    """

    weights: FloatArray
    features: FloatArray
    products: FloatArray


def within_between(counts: FloatArray, means: FloatArray, within: FloatArray) -> float:
    """NC1, tr(S_W S_B^+) / K: 0 where all rows of a class are one point.

    Args:
        counts: (K,) rows of each class.
        means: (K, D) class means.
        within: (D, D) sum over rows of the second moments about the row's class mean.
    """
    off = means - means.mean(axis=0)
    between = off.T @ off / len(means)
    return float(np.trace(within / counts.sum() @ np.linalg.pinv(between, rcond=CUT_OFF, hermitian=True)) / len(means))


def simplex(n_classes: int) -> FloatArray:
    """(K, K) Gram matrix, of Frobenius norm 1, of K vectors of one length, as far apart as can be."""
    found: FloatArray = (np.eye(n_classes) - 1 / n_classes) / np.sqrt(n_classes - 1)
    return found


def from_simplex(gram: FloatArray) -> float:
    """NC2 and NC3, distance of a (K, K) matrix at norm 1 from that of a simplex."""
    return float(np.linalg.norm(gram / np.linalg.norm(gram) - simplex(len(gram))))


def of_means(means: FloatArray) -> dict[str, float]:
    """NC2 of class means (K, D): their distance from a simplex, and how their lengths and angles scatter."""
    off = means - means.mean(axis=0)
    lengths, K = np.linalg.norm(off, axis=1), len(means)
    directions = off / np.where(lengths > 0, lengths, 1)[:, None]
    cosines = (directions @ directions.T)[~np.eye(K, dtype=bool)]
    return {
        "nc2_means": from_simplex(off @ off.T),
        "nc2_length_variation": float(lengths.std() / lengths.mean()),
        "nc2_mean_angle_off": float(np.abs(cosines + 1 / (K - 1)).mean()),
    }


def of_weights(W: FloatArray, means: FloatArray) -> dict[str, float]:
    """NC2 of weights (K, D), and NC3, how weights go along with the class means (K, D)."""
    off = means - means.mean(axis=0)
    return {
        "nc2_weights": from_simplex(W @ W.T),
        "nc3": from_simplex(W @ off.T),
        "nc3_difference": float(np.linalg.norm(W / np.linalg.norm(W) - off / np.linalg.norm(off))),
    }


def structure(counts: FloatArray, lambda_W: float, lambda_H: float) -> Structure:
    """The closed form for classes of any size, without intercept, for features of K dimensions or more.

    |w_k|^2 = sqrt(n_k lambda_H / lambda_W) - N lambda_H, where that is above 0, else the class has collapsed: n_k <=
    N^2 lambda_W lambda_H. Source: Dang, Tran, Osher, Tran-The, Ho, Nguyen, "Neural Collapse in Deep Linear Networks:
    From Balanced to Imbalanced Data", 2023, arXiv 2301.00437.
    """
    n, N = np.asarray(counts, dtype=np.float64), float(np.sum(counts))
    alive = n > N**2 * lambda_W * lambda_H
    weights = np.where(alive, np.sqrt(n * lambda_H / lambda_W) - N * lambda_H, 0.0)
    features = np.where(alive, np.sqrt(lambda_W / (n * lambda_H)) - N * lambda_W / n, 0.0)
    return Structure(weights, features, np.where(alive, 1 - N * np.sqrt(lambda_W * lambda_H / n), 0.0))
