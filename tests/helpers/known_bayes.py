"""Two Gaussians whose Bayes error is known, and what a head makes of them."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import multivariate_normal, norm


@dataclass
class Gaussians:
    """Two classes with means -+`offset` and one covariance each; equal priors."""

    offset: np.ndarray
    covariances: tuple[np.ndarray, np.ndarray]

    def draw(self, n_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        parts = [
            rng.multivariate_normal(sign * self.offset, covariance, n_per_class, method="cholesky")
            for sign, covariance in zip((-1, 1), self.covariances, strict=True)
        ]
        return np.concatenate(parts), np.repeat([0, 1], n_per_class)

    def bayes_error(self) -> float:
        """Phi(-Delta / 2), with Delta the Mahalanobis distance of the means under the covariance they share."""
        delta = 2 * self.offset
        return float(norm.cdf(-np.sqrt(delta @ np.linalg.solve(self.covariances[0], delta)) / 2))


def excess_in_standard_errors(head, gaussians, bayes_error=None, n_train=20_000, n_test=20_000) -> float:
    """How far a fitted head is above the Bayes error, in standard errors of the test rows."""
    bayes = gaussians.bayes_error() if bayes_error is None else bayes_error
    head.fit(*gaussians.draw(n_train, seed=1))
    X, y = gaussians.draw(n_test, seed=2)
    return float((np.mean(head.predict(X) != y) - bayes) / np.sqrt(bayes * (1 - bayes) / len(y)))


def isotropic(width: int = 6) -> Gaussians:
    return Gaussians(np.full(width, 0.45), (np.eye(width), np.eye(width)))


def diagonal(width: int = 6) -> Gaussians:
    """The noisiest features carry the largest offset, which misleads a rule that ignores variances."""
    spread = np.geomspace(0.2, 20, width)
    covariance = np.diag(spread**2)
    return Gaussians(np.sqrt(spread) * 0.3, (covariance, covariance))


def correlated(width: int = 6, rho: float = 0.9) -> Gaussians:
    """Neighbours share their noise, but not their offset: a rule that ignores correlation wastes that."""
    covariance = np.full((width, width), rho) + (1 - rho) * np.eye(width)
    return Gaussians(np.linspace(0.0, 0.4, width), (covariance, covariance))


def curved() -> tuple[Gaussians, float]:
    """Two covariances, so that the boundary of the Bayes rule is curved; and its error, from 200,000 rows."""
    different = Gaussians(np.full(4, 0.2), (np.eye(4), 6 * np.eye(4)))
    X, y = different.draw(200_000, seed=3)
    likelihoods = [
        multivariate_normal(sign * different.offset, c).logpdf(X)
        for sign, c in zip((-1, 1), different.covariances, strict=True)
    ]
    return different, float(np.mean(np.argmax(likelihoods, axis=0) != y))


def offline_accuracies(head, load) -> np.ndarray:
    """Percent on 10 stratified halves, features scaled to [0, 1] by the training half: the splits of the cards."""
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    X, y = load(return_X_y=True)
    halves = [train_test_split(X, y, test_size=0.5, random_state=seed, stratify=y) for seed in range(10)]
    pipeline = make_pipeline(MinMaxScaler(), head)
    return np.array([100 * pipeline.fit(a, y_a).score(b, y_b) for a, b, y_a, y_b in halves])


def correlated_tokens(n, rho=0.2, n_tokens=25, seed=0):
    """Zero means; the halves of the channels correlate by rho or by -rho. Third, the Bayes accuracy on these rows."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    left, noise = rng.standard_normal((2, n, n_tokens, 4))
    right = np.where(y == 1, rho, -rho)[:, None, None] * left + np.sqrt(1 - rho**2) * noise
    bayes = np.mean(((left * right).sum(axis=(1, 2)) > 0) == y)
    tokens = np.concatenate([left, right], axis=2).astype(np.float32)
    return {"pooled": tokens.mean(axis=1), "tokens": tokens}, y, bayes
