"""Two experts, one of seen and one of unseen classes, and a gate between them.

Source: Y. Atzmon, G. Chechik, "Adaptive Confidence Smoothing for Generalized Zero-Shot Learning", 2019, arXiv
1812.09903, as its code has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray

FloatArray = NDArray[np.floating[Any]]
SMOOTHINGS = ("adaptive", "constant", "total", "none")
LEAST = 1e-12


def combined(
    of_unseen: FloatArray,
    of_seen: FloatArray,
    p_unseen: FloatArray,
    seen: IntArray,
    unseen: IntArray,
    smoothing: str = "adaptive",
    gamma: float = 0.7,
) -> FloatArray:
    """(N, K) scores of all classes, of which the largest is predicted.

    p(U) p(y|U) + (1 - p(U)) p(y|S), with z the zero-shot expert's probabilities of the unseen classes as they are and s
    those of the seen expert. `adaptive`: p(y|U) = z_y + (1 - p(U)) / |U| and p(y|S) = s_y + p(U) / |S|, so that an
    expert that the gate doubts says little; rows do not sum to 1. `constant`: gamma z / sum z + (1 - gamma) / |U|, and
    likewise. `total`: z / sum z, and likewise. `none`: the same with p(U) rounded to 0 or 1: the hard gate.

    Args:
        of_unseen: (N, K) probabilities of the zero-shot expert, over all classes.
        of_seen: (N, K) of the seen expert.
        p_unseen: (N,) of the gate.
        seen, unseen: Codes of the classes.
        smoothing: One of `SMOOTHINGS`.
        gamma: Of `constant`.
    """
    if smoothing == "none":
        p_unseen = (p_unseen > 0.5).astype(np.float64)
    gate = p_unseen[:, None]
    z, s = of_unseen[:, unseen], of_seen[:, seen]
    if smoothing == "adaptive":
        z, s = z + (1 - gate) / max(len(unseen), 1), s + gate / len(seen)
    else:
        z, s = (part / np.maximum(part.sum(axis=1, keepdims=True), LEAST) for part in (z, s))
        if smoothing == "constant":
            z, s = (gamma * part + (1 - gamma) / max(part.shape[1], 1) for part in (z, s))
    found = np.zeros_like(of_seen, dtype=np.float64)
    found[:, unseen], found[:, seen] = gate * z, (1 - gate) * s
    return found


def gate_features(of_unseen: FloatArray, of_seen: FloatArray, temperature: float, n_top: int) -> FloatArray:
    """What the gate looks at, (N, 2 n_top): the largest probabilities of each expert, in falling order.

    Those of the seen expert at a temperature. In order, they say nothing of which classes they are of: a gate that was
    fitted on some unseen classes serves others.

    Args:
        of_unseen: (N, |U|) probabilities of the zero-shot expert.
        of_seen: (N, |S|) of the seen expert.
        temperature: Of the latter.
        n_top: How many of each.
    """
    logits = np.log(of_seen + LEAST) / temperature
    flat = np.exp(logits - logits.max(axis=1, keepdims=True))
    flat /= flat.sum(axis=1, keepdims=True)
    return np.hstack([-np.sort(-part, axis=1)[:, :n_top] for part in (of_unseen, flat)])


def doubt(p_seen: FloatArray, threshold: float, width: float) -> FloatArray:
    """p(U) = sigmoid((threshold - P(seen)) / width) of a gate's answers."""
    with np.errstate(over="ignore"):
        found: FloatArray = 1 / (1 + np.exp(-(threshold - p_seen) / width))
    return found


def harmonic_mean(right: NDArray[np.bool_], labels: IntArray, is_unseen: NDArray[np.bool_]) -> float:
    """Of the mean accuracies over seen and over unseen classes."""
    a, b = (np.mean([right[labels == k].mean() for k in np.unique(labels[kind])]) for kind in (~is_unseen, is_unseen))
    return float(2 * a * b / (a + b)) if a + b else 0.0
