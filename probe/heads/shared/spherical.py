"""Losses of the spherical family, which know of the other classes only the sum of logits and that of their squares.

With o the K logits of a row, s = sum o, q = sum o^2 and c its class:

- `z`: softplus(a (b - z_c)) / a, z = (o - mean) / deviation: shifts and scales of the logits move nothing. It gives no
  probabilities. It has nothing to do with the (log Z)^2 that is called z-loss elsewhere.
- `spherical`: -log((o_c^2 + eps) / (q + K eps)).
- `taylor`: -log((1 + o_c + o_c^2 / 2) / (K + s + q / 2)).

Sources: de Brebisson and Vincent, "An exploration of softmax alternatives belonging to the spherical loss family",
2016, arXiv 1511.05042, and "The Z-loss: a shift and scale invariant classification loss belonging to the spherical
family", 2016, arXiv 1604.08859.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

LOSSES = ("softmax", "z", "spherical", "taylor")
LEAST_DEVIATION = 1e-6
"""Of logits that are all the same: their gradient stays finite."""
EPS = 0.1
"""Of `spherical`: small logits have small gradients."""


def margin_of(n_classes: int) -> float:
    """b of `z` where none is given: the largest z that there is, sqrt(K - 1)."""
    return math.sqrt(n_classes - 1)


def gradient(
    loss: str, logits: Tensor, targets: Tensor, *, a: float = 1.0, b: float | None = None, eps: float = EPS
) -> Tensor:
    """Derivatives by logits (L, K, B) of the loss of each row, classes along the axis before the last.

    Args:
        loss: One of `LOSSES`.
        logits: Of L solutions for B rows.
        targets: (B,) class codes.
        a: Sharpness of `z`.
        b: Its margin.
        eps: Of `spherical`.
    """
    n_classes = logits.shape[1]
    places = targets, torch.arange(len(targets), device=targets.device)
    if loss == "softmax":
        found = logits.softmax(1)
        found[:, places[0], places[1]] -= 1
        return found
    own = logits[:, places[0], places[1]]
    if loss == "z":
        deviation = logits.std(1, correction=0, keepdim=True).clamp(min=LEAST_DEVIATION)
        z = (logits - logits.mean(1, keepdim=True)) / deviation
        z_own = z[:, places[0], places[1]]
        pull = torch.sigmoid(a * ((margin_of(n_classes) if b is None else b) - z_own))[:, None] / deviation
        found = pull * (1 + z_own[:, None] * z) / n_classes
        found[:, places[0], places[1]] -= pull[:, 0]
        return found
    if loss == "spherical":
        found = 2 * logits / (logits.square().sum(1, keepdim=True) + n_classes * eps)
        found[:, places[0], places[1]] -= 2 * own / (own.square() + eps)
        return found
    found = (1 + logits) / (1 + logits + logits.square() / 2).sum(1, keepdim=True)
    found[:, places[0], places[1]] -= (1 + own) / (1 + own + own.square() / 2)
    return found


def coefficients(
    loss: str,
    own: Tensor,
    s: Tensor,
    q: Tensor,
    n_classes: int,
    *,
    a: float = 1.0,
    b: float | None = None,
    eps: float = EPS,
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative by logits o as x 1 + y o + z e_c: x, y and z (B,), from what the loss knows of the logits.

    Args:
        loss: One of the spherical family.
        own: (B,) logit of the class of each row.
        s, q: (B,) sums of all K logits and of their squares.
        n_classes: K.
        a, b, eps: As of `gradient`.
    """
    if loss == "z":
        mean = s / n_classes
        deviation = (q / n_classes - mean.square()).clamp(min=0).sqrt().clamp(min=LEAST_DEVIATION)
        z = (own - mean) / deviation
        pull = torch.sigmoid(a * ((margin_of(n_classes) if b is None else b) - z)) / deviation
        return pull * (1 - z * mean / deviation) / n_classes, pull * z / (deviation * n_classes), -pull
    if loss == "spherical":
        return torch.zeros_like(own), 2 / (q + n_classes * eps), -2 * own / (own.square() + eps)
    share = 1 / (n_classes + s + q / 2)
    return share, share, -(1 + own) / (1 + own + own.square() / 2)


def values(
    loss: str, logits: Tensor, targets: Tensor, *, a: float = 1.0, b: float | None = None, eps: float = EPS
) -> Tensor:
    """(B,) losses of rows with logits (B, K)."""
    if loss == "z":
        deviation = logits.std(1, correction=0, keepdim=True).clamp(min=LEAST_DEVIATION)
        z = ((logits - logits.mean(1, keepdim=True)) / deviation).gather(1, targets[:, None])[:, 0]
        return softplus(a * ((margin_of(logits.shape[1]) if b is None else b) - z)) / a
    return -log_shares(loss, logits, eps=eps).log_softmax(1).gather(1, targets[:, None])[:, 0]


def log_shares(loss: str, logits: Tensor, *, eps: float = EPS) -> Tensor:
    """What takes the place of logits in a softmax: their logarithms are what the loss takes for shares."""
    if loss == "spherical":
        return (logits.square() + eps).log()
    return (1 + logits + logits.square() / 2).log() if loss == "taylor" else logits
