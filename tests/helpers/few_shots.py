"""Classes with texts and few rows each, as a CLIP model would have them."""

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm


def few_shots(shots=8, n_classes=5, width=16, n_test=400, noise=0.5, seed=0):
    """Texts (K, D), rows and labels to train, to choose and to test on; texts point roughly where the classes do."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_classes, width))
    texts = centres + 1.5 * rng.standard_normal((n_classes, width))

    def draw(n):
        y = np.arange(n) % n_classes
        return centres[y] + noise * np.sqrt(width) * 0.5 * rng.standard_normal((n, width)), y

    return texts, draw(shots * n_classes), draw(100), draw(n_test)


def excess_error(head_of, n_classes=4, width=8, length=2.5, shots=100, n_test=4000):
    """Error of a head above Bayes' on Gaussians of one covariance, in standard errors, and in points.

    Means are orthogonal, of one length, and what the texts say: then Bayes' rule looks at the cosine with each, and is
    right where the largest of K normal numbers is that of the class, which is `length` above the others.

    Args:
        head_of: From texts (K, D) to a head.
    """
    rng = np.random.default_rng(0)
    means = length * np.linalg.qr(rng.standard_normal((width, width)))[0][:n_classes]
    bayes = 1 - quad(lambda u: norm.pdf(u - length) * norm.cdf(u) ** (n_classes - 1), -10, 15)[0]

    def draw(n):
        y = np.arange(n) % n_classes
        return means[y] + rng.standard_normal((n, width)), y

    head = head_of(means).fit(*draw(shots * n_classes), validation=draw(200))
    X, y = draw(n_test)
    excess = float(np.mean(head.predict(X) != y)) - bayes
    return excess / np.sqrt(bayes * (1 - bayes) / n_test), 100 * excess


def case():
    """What a run fills in, for the contract tests, and rows that lean towards it."""
    return {"class_features": np.random.default_rng(0).normal(size=(3, 4)), "temperature": 0.1}
