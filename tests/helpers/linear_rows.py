"""Rows that no line separates."""

import numpy as np


def overlapping(n=300, d=8, K=4, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    return (rng.standard_normal((K, d))[y] + rng.standard_normal((n, d)) * 1.5) * 0.7 ** np.arange(d) + 1, y
