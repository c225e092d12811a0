"""One vector of several layers: their sum, with softmax weights that are learnt with a linear head on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from probe.core.errors import InputError

Values = NDArray[np.float64]
MAX_VALUES = 2**26
"""Of features and scores that weights are learnt from; they lie in memory as doubles."""
ROUNDS, TOLERANCE = 30, 1e-6
"""After so many rounds, or where one lowers the objective by less than this part of it, the weights stand."""


@dataclass(frozen=True)
class LayerMix:
    """A mixture sum_l s_l c_l x_l of L layers.

    Attributes:
        weights: (L,) s, above 0, their sum 1.
        scales: (L,) c, which bring all layers to the mean of their spreads, so that weights can be compared.
        objectives: After each round, of the linear head on the mixture; they never rise.
    """

    weights: Values
    scales: Values
    objectives: list[float]

    @property
    def shares(self) -> list[float]:
        """What each layer is multiplied by."""
        return [float(share) for share in self.weights * self.scales]


def scales_of(parts: Sequence[Any]) -> Values:
    """(L,) the mean spread of layers (N, D) over that of each; 1 for a layer that is the same in all rows."""
    spreads = np.array([float(np.sqrt(np.asarray(part[:], dtype=np.float64).var(axis=0).sum())) for part in parts])
    moving = spreads > 0
    mean = spreads[moving].mean() if moving.any() else 1.0
    return np.divide(mean, spreads, out=np.ones(len(spreads)), where=moving)


def rows_to_learn_from(n_rows: int, values_per_row: int, seed: int) -> NDArray[np.int64]:
    """The rows that weights are learnt from: all, or a seeded draw of as many as lie in memory."""
    most = max(2, MAX_VALUES // values_per_row)
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False))


def learn_mix(parts: Sequence[Any], y: ArrayLike, head: Any, penalty: float) -> LayerMix:
    """Learns the weights by turns: the head is fitted on the mixture, then the weights to the head's scores.

    Both turns lower (1/N) sum_i loss(sum_l s_l W c_l x_il + b) + (penalty / 2N) |W|^2, which is convex in W and b for
    given weights, and convex in the weights for given W and b: of classes the loss is the cross-entropy, of numbers
    half the squared error. Weights are a softmax, as in Peters et al., "Deep contextualized word representations",
    2018, arXiv 1802.05365. Departures: these train on the test of a task by mini-batches and have a scale for all
    layers, which is the head's here; layers come at one spread.

    Args:
        parts: L arrays (N, D) of the training rows.
        y: (N,) classes, or numbers (N,) or (N, Q).
        head: Unfitted, linear, with this one penalty and without choice: `coef_` and `intercept_` after `fit`.
        penalty: 1 / C of `LinearProbe`, or alpha of `RidgeNumbers`.
    """
    scales = scales_of(parts)
    layers = np.stack([c * _centred(part) for c, part in zip(scales, parts, strict=True)])
    weights, labels, objectives = np.full(len(layers), 1 / len(layers)), np.asarray(y), list[float]()
    while len(objectives) < ROUNDS:
        fitted = head.fit(np.tensordot(weights, layers, 1), labels)
        coef, intercept = _as_scores(fitted)
        loss = _loss_of(fitted, labels)
        scores = layers @ coef.T
        weights, value = _weights(scores, intercept, loss, weights)
        objectives.append(value + penalty * float(np.square(fitted.coef_).sum()) / (2 * len(labels)))
        gained = objectives[-2] - objectives[-1] if len(objectives) > 1 else np.inf
        if len(layers) == 1 or gained < TOLERANCE * abs(objectives[-1]):
            break
    return LayerMix(weights, scales, objectives)


def _centred(part: Any) -> Values:
    rows = np.asarray(part[:], dtype=np.float64)
    return rows - rows.mean(axis=0)


def _as_scores(head: Any) -> tuple[Values, Values]:
    """Coefficients and intercepts with a score for each class, two classes included, or for each number."""
    coef, intercept = (np.asarray(value, dtype=np.float64) for value in (head.coef_, head.intercept_))
    if hasattr(head, "classes_") and len(coef) == 1:
        return np.concatenate([0 * coef, coef]), np.concatenate([0 * intercept, intercept])
    return coef, intercept


Loss = Callable[[Values], tuple[float, Values]]
"""Of scores (N, K) their mean loss over rows, and its derivative by each score."""


def _loss_of(head: Any, labels: NDArray[Any]) -> Loss:
    n = len(labels)
    if not hasattr(head, "classes_"):
        values = labels.reshape(n, -1).astype(np.float64)
        return lambda scores: (float(np.square(scores - values).sum()) / (2 * n), (scores - values) / n)
    codes, rows = np.searchsorted(head.classes_, labels), np.arange(n)

    def cross_entropy(scores: Values) -> tuple[float, Values]:
        logs = log_softmax(scores, axis=1)
        slopes = np.exp(logs)
        slopes[rows, codes] -= 1
        return -float(logs[rows, codes].mean()), slopes / n

    return cross_entropy


def _weights(scores: Values, intercept: Values, loss: Loss, start: Values) -> tuple[Values, float]:
    """The best weights (L,) for scores (L, N, K) of the layers, and their loss; never worse than the start."""

    def objective(given: Values) -> tuple[float, Values]:
        shares = softmax(given)
        value, slopes = loss(np.tensordot(shares, scores, 1) + intercept)
        by_share = np.tensordot(scores, slopes, 2)
        return value, shares * (by_share - shares @ by_share)

    first = objective(np.log(start))[0]
    if len(start) == 1:
        return start, first
    # Beyond e^-20 a weight says no more than that a layer is not used.
    bounds = [(-20.0, 0.0)] * len(start)
    given = np.clip(np.log(start) - np.log(start).max(), -20, 0)
    found = minimize(objective, given, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    return (softmax(found.x), float(found.fun)) if found.fun < first else (start, first)


def check_widths(pattern: str, backbone: str, widths: dict[str, int]) -> None:
    """Refuses layers that differ in width: their vectors have no sum.

    Raises:
        InputError: With the layers, and what does without.
    """
    if len(set(widths.values())) < 2:
        return
    first = next(iter(widths))
    other = next(name for name in widths if widths[name] != widths[first])
    raise InputError(
        f"reads.pooled={pattern} sums layers of one width, {first} of backbone {backbone} has {widths[first]} numbers "
        f"and {other} has {widths[other]}: name layers of one width, or choose one of them by "
        f"reads.pooled={pattern.rpartition(':')[0]}:best"
    )
