"""Ensembles of classifiers from the log-probabilities of their members alone: M members, N rows, K classes.

All is computed with logarithms, so that probabilities far below 1e-308 keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from probe.core.errors import InputError
from probe.metrics.shared.intervals import FloatArray
from probe.metrics.shared.temperature import scale

RECIPE = "1"
"""Turned where the numbers of an ensemble change."""
TOLERANCE = 1e-6
"""Nats by which the weights may be worse than the best ones."""
MAX_STEPS = 20_000


def log_probabilities(logits: NDArray[Any], temperature: float = 1.0) -> FloatArray:
    """(N, K) log-softmax of `logits / temperature`; a class at -inf stays there."""
    found: FloatArray = log_softmax(scale(logits, temperature), axis=1)
    return found


def mean(log_p: FloatArray) -> FloatArray:
    """p = sum_m p_m / M."""
    return weighted(log_p, np.full(len(log_p), 1 / len(log_p)))


def median(log_p: FloatArray) -> FloatArray:
    """p_k = median_m p_mk, brought to the sum 1; the mean where that is 0 for all classes. Of two members their mean.

    One member of three that is wrong beyond measure moves it no further than to one of the others.
    """
    ordered = np.sort(log_p, axis=0)
    middle = np.logaddexp(ordered[(len(log_p) - 1) // 2], ordered[len(log_p) // 2]) - np.log(2)
    found, impossible = mean(log_p), np.isneginf(middle).all(axis=1)
    found[~impossible] = log_softmax(middle[~impossible], axis=1)
    return found


def vote(log_p: FloatArray) -> FloatArray:
    """p_k = (members whose likeliest class is k + mean_m p_mk) / (M + 1): the mean decides between equal numbers."""
    votes = (log_p.argmax(axis=2)[..., None] == np.arange(log_p.shape[2])).sum(axis=0)
    with np.errstate(divide="ignore"):
        found: FloatArray = np.logaddexp(np.log(votes), mean(log_p)) - np.log(len(log_p) + 1)
    return found


def weighted(log_p: FloatArray, weights: FloatArray) -> FloatArray:
    """p = sum_m w_m p_m, for weights that sum to 1."""
    found: FloatArray = logsumexp(log_p, axis=0, b=weights[:, None, None])
    return found


KINDS: Mapping[str, Callable[..., FloatArray]] = {"mean": mean, "median": median, "vote": vote, "weighted": weighted}
"""From log-probabilities (M, N, K) to those of the ensemble, (N, K); the last takes weights too."""


def fit_weights(log_p: FloatArray) -> FloatArray:
    """(M,) weights >= 0 of sum 1 that minimise the log loss of the weighted mean: -mean_i log sum_m w_m p_m(y_i).

    The problem is convex. Each step of expectation maximisation multiplies w_m by g_m = mean_i p_m(y_i) / p(y_i), and
    max_m g_m - 1 bounds what is left to gain, so that it is known when to stop. From equal weights on, members that
    are equal stay so. Source: Dempster, Laird and Rubin, "Maximum likelihood from incomplete data via the EM
    algorithm", 1977.

    Args:
        log_p: (M, n) what each member gives the true class of rows that it was not fitted on. Rows at -inf for all
            members are left out, no weights help them.

    Raises:
        InputError: No row is left.
    """
    usable = np.isfinite(log_p).any(axis=0)
    if not usable.any():
        raise InputError(
            f"none of the {log_p.shape[1]} validation rows has a class that a member holds possible, weights need one: "
            "choose kind mean or median"
        )
    p = np.exp(log_p[:, usable] - log_p[:, usable].max(axis=0))
    weights = np.full(len(p), 1 / len(p))
    for _ in range(MAX_STEPS):
        gains = (p / (weights @ p)).mean(axis=1)
        if gains.max() <= 1 + TOLERANCE:
            break
        weights *= gains
    return weights / weights.sum()


def disagreement(log_p: FloatArray) -> float:
    """How often two members predict another class, the mean over all pairs."""
    predicted = log_p.argmax(axis=2)
    upper = np.triu_indices(len(predicted), 1)
    return float(np.mean([(predicted[a] != predicted[b]).mean() for a, b in zip(*upper, strict=True)]))
