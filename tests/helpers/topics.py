"""Rows of words of which each class has some of its own, for heads that read ids."""

import numpy as np

from probe.core.ragged import RaggedRows


def topics(n=150, n_classes=3, seed=0):
    """Texts of 1 to 30 of 400 words, of which each class has 40 of its own; ids are no small numbers."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    lengths = rng.integers(1, 31, n)
    words = [np.where(rng.random(k) < 0.3, rng.integers(0, 40, k) + 40 * c, rng.integers(120, 400, k))
             for k, c in zip(lengths, y, strict=True)]  # fmt: skip
    ids = np.concatenate(words) * 1_000_003 + 7
    return RaggedRows(ids.astype(np.int32), np.append(0, np.cumsum(lengths))), y
