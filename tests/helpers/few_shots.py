"""Classes with texts and few rows each, as a CLIP model would have them."""

import numpy as np


def few_shots(shots=8, n_classes=5, width=16, n_test=400, noise=0.5, seed=0):
    """Texts (K, D), rows and labels to train, to choose and to test on; texts point roughly where the classes do."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_classes, width))
    texts = centres + 1.5 * rng.standard_normal((n_classes, width))

    def draw(n):
        y = np.arange(n) % n_classes
        return centres[y] + noise * np.sqrt(width) * 0.5 * rng.standard_normal((n, width)), y

    return texts, draw(shots * n_classes), draw(100), draw(n_test)


def case():
    """What a run fills in, for the contract tests, and rows that lean towards it."""
    return {"class_features": np.random.default_rng(0).normal(size=(3, 4)), "temperature": 0.1}
