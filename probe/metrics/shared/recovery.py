"""How much of what hard training rows teach can be learnt from easy ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.metrics.shared.intervals import N_RESAMPLES, QUANTILES, Interval


def gap_recovered(
    easy_RN: NDArray[np.bool_], hard_SN: NDArray[np.bool_], unsupervised: float, seed: int = 0
) -> Interval:
    """(easy - unsupervised) / (hard - unsupervised): 1 where easy rows teach as much as hard ones, 0 where nothing.

    Not clipped: above 1 easy rows teach more. NaN where hard rows teach nothing. The interval resamples test rows and
    seeds (95 %, percentiles), and is open where hard rows teach nothing in some resample.
    Source: P. Hase et al., "The Unreasonable Effectiveness of Easy Training Data for Hard Tasks", 2024, arXiv
    2401.06751.

    Args:
        easy_RN: Whether each hard test row is right after training on easy rows, under each of R seeds.
        hard_SN: The same rows after training on hard rows, under each of S seeds.
        unsupervised: Accuracy without any training row.
    """
    if easy_RN.shape[1] != hard_SN.shape[1] or not easy_RN.size or not hard_SN.size:
        raise InputError(
            f"correctness has shapes {easy_RN.shape} and {hard_SN.shape}, expected the same test rows: test both on "
            "the same hard rows"
        )

    def ratio(easy: float, hard: float) -> float:
        return (easy - unsupervised) / (hard - unsupervised) if hard > unsupervised else float("nan")

    rng, n_rows = np.random.default_rng(seed), easy_RN.shape[1]
    replicates = []
    for _ in range(N_RESAMPLES):
        rows = rng.integers(0, n_rows, n_rows)
        means = [part[rng.integers(0, len(part), len(part))][:, rows].mean() for part in (easy_RN, hard_SN)]
        replicates.append(ratio(*means))
    value = ratio(easy_RN.mean(), hard_SN.mean())
    if np.isnan([value, *replicates]).any():
        return Interval(value, float("-inf"), float("inf"))
    low, high = np.quantile(replicates, QUANTILES)
    return Interval(value, float(min(low, value)), float(max(high, value)))
