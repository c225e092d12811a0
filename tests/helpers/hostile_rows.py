"""Rows that upset fits, for whatever fits one class per row."""

import numpy as np


def hostile():
    """Rows (N, D) and labels that fits are easily upset by."""
    X, thirds = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32), np.arange(12) % 3
    return {
        "one row per class": (X, np.arange(12)),
        "one class of one row": (X, (np.arange(12) == 11).astype(int)),
        "all features constant": (np.full_like(X, 3), thirds),
        "zeros": (np.zeros_like(X), thirds),
        "one feature constant": (X * [1, 0, 1, 1] + [0, 5, 0, 0], thirds),
        "a single feature": (X[:, :1], thirds),
        "features twice and a sum": (np.hstack([X, X, X[:, :1] + X[:, 1:2]]), thirds),
        "every row four times": (np.repeat(X[:3], 4, axis=0), thirds),
        "two rows": (X[:2], np.array([0, 1])),
        "large": (X * 1e15, thirds),
        "small": (X * 1e-20, thirds),
        "largest float16": ((X * 3e4).clip(-65504, 65504).astype(np.float16), thirds),
    }
