"""Scores of the logits alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp, softmax

from probe.ood.shared.score import Floats, Known, Rows, Score, Scorer


def largest_probability(logits: Floats) -> Floats:
    """MSP, max_k p_k. Source: Hendrycks, Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks", 2017, arXiv 1610.02136."""
    found: Floats = softmax(logits, axis=1).max(axis=1)
    return found


def largest_logit(logits: Floats) -> Floats:
    """max_k l_k. Source: Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", 2022,
    arXiv 1911.11132."""
    found: Floats = logits.max(axis=1)
    return found


def energy(logits: Floats, temperature: float = 1.0) -> Floats:
    """T log sum_k exp(l_k / T), the negative free energy. Source: Liu, Wang, Owens, Li, "Energy-based
    Out-of-distribution Detection", 2020, arXiv 2010.03759."""
    found: Floats = temperature * logsumexp(logits / temperature, axis=1)
    return found


def generalised_entropy(logits: Floats, gamma: float = 0.1, n_largest: int = 100) -> Floats:
    """GEN, -sum over the largest probabilities of p^gamma (1 - p)^gamma; all classes where there are fewer. Source:
    Liu, Lochman, Zach, "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection", 2023."""
    p = np.sort(softmax(logits, axis=1), axis=1)[:, -n_largest:]
    found: Floats = -((p * (1 - p)) ** gamma).sum(axis=1)
    return found


def _of_logits(function: Callable[[Floats], Floats]) -> Callable[[Known], Scorer]:
    def fit(known: Known) -> Scorer:
        def score(rows: Rows) -> Floats:
            return function(np.asarray(rows.logits, dtype=np.float64))

        return score

    return fit


SCORES = (
    Score(name="msp", fit=_of_logits(largest_probability)),
    Score(name="maxlogit", fit=_of_logits(largest_logit)),
    Score(name="energy", fit=_of_logits(energy)),
    Score(name="gen", fit=_of_logits(generalised_entropy)),
)
