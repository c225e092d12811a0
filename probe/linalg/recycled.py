"""Curvature that earlier Newton systems met, kept to precondition later ones."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from probe.linalg.losses import Preconditioner

KEPT = 20
"""Directions; more bring little, and each costs two passes over the coefficients."""

Curvature = tuple[Tensor, Tensor]
"""A direction (K, R + 1) and the Hessian of the loss times it."""


class RecycledCurvature:
    """The last directions of conjugate gradients, as limited-memory BFGS updates of a preconditioner.

    Automatic preconditioning by limited memory quasi-Newton updating (Morales and Nocedal, 2000). What is kept is the
    Hessian of the loss alone: C times it plus the penalty's identity is the curvature at any C, so that along a path
    each C profits from the ones before.
    """

    def __init__(self) -> None:
        self._seen: deque[Curvature] = deque(maxlen=KEPT)

    def remember(self, seen: list[Curvature]) -> None:
        """Keeps the latest; directions of one system are conjugate and come in order."""
        self._seen.extend(seen)

    def preconditioner(self, plain: Preconditioner, C: float) -> Preconditioner:
        """`plain` with the curvature kept, for the objective C * loss + 1/2 ||W||^2."""
        pairs = []
        for direction, of_loss in self._seen:
            product = C * of_loss
            product[:, :-1] += direction[:, :-1]
            curvature = dot(direction, product)
            if curvature > 0:
                pairs.append((direction, product, 1 / curvature))

        def precondition(gradient: Tensor) -> Tensor:
            """The two loops of Nocedal (1980)."""
            step, weights = gradient.clone(), []
            for direction, product, scale in reversed(pairs):
                weights.append(scale * _product(direction, step))
                step -= weights[-1] * product
            step = plain(step)
            for (direction, product, scale), weight in zip(pairs, reversed(weights), strict=True):
                step += (weight - scale * _product(product, step)) * direction
            return step

        return precondition


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product over all entries, in float64."""
    return torch.dot(a.flatten().double(), b.flatten().double()).item()


def _product(a: Tensor, b: Tensor) -> float:
    """In single precision, which is enough for a preconditioner."""
    return torch.dot(a.view(-1), b.view(-1)).item()
