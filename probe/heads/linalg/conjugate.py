"""Linear systems in the Hessian of a penalised loss, by preconditioned conjugate gradients."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import eigvalsh_tridiagonal
from torch import Tensor

from probe.heads.linalg.losses import Preconditioner

MAX_CG_STEPS = 100

Curvature = tuple[Tensor, Tensor]
"""A direction (K, R + 1) and the Hessian of the loss times it."""


class Solved(NamedTuple):
    """What conjugate gradients found.

    Attributes:
        solution: (K, R + 1).
        softest: The smallest Ritz value of the preconditioned matrix: what the preconditioner says of a distance to the
            optimum is to be divided by it.
        seen: The latest curvatures met on the way.
        left: Squared length of the last residual, as the preconditioner measures it.
    """

    solution: Tensor
    softest: float
    seen: list[Curvature]
    left: float


def conjugate_gradients(
    of_loss: Callable[[Tensor], Tensor],
    right: Tensor,
    C: float,
    precondition: Preconditioner,
    accuracy: float,
    *,
    max_steps: int = MAX_CG_STEPS,
    first: Tensor | None = None,
    keep: int = 0,
) -> Solved:
    """Solves (C H + penalty) p = right, until the preconditioned residual shrank by `accuracy`.

    Args:
        of_loss: H times a (K, R + 1) direction; the penalty's identity leaves out the last column, the intercepts.
        right: (K, R + 1).
        C: Factor of the loss.
        precondition: About the inverse of the matrix.
        accuracy: Relative.
        max_steps: Products at most.
        first: What `precondition` makes of `right`, where that is known.
        keep: How many curvatures to return.
    """
    solution = torch.zeros_like(right)
    residual = right
    conjugate = preconditioned = precondition(residual) if first is None else first
    size = first_size = dot(residual, preconditioned)
    steps, ratios = [], []
    seen: deque[Curvature] = deque(maxlen=keep)
    for _ in range(max_steps):
        loss_product = of_loss(conjugate)
        product = C * loss_product
        product[:, :-1] += conjugate[:, :-1]
        curvature = dot(conjugate, product)
        if curvature <= 0:
            break
        seen.append((conjugate, loss_product))
        steps.append(size / curvature)
        solution += steps[-1] * conjugate
        residual = residual - steps[-1] * product
        preconditioned = precondition(residual)
        size, last = dot(residual, preconditioned), size
        ratios.append(size / last)
        if size <= accuracy**2 * first_size:
            break
        conjugate = preconditioned + ratios[-1] * conjugate
    if not steps:
        return Solved(preconditioned, 1.0, list(seen), size)
    return Solved(solution, smallest_ritz_value(np.array(steps), np.array(ratios[:-1])), list(seen), size)


def smallest_ritz_value(steps: np.ndarray, ratios: np.ndarray) -> float:
    """Of the Lanczos matrix that the step lengths and ratios of conjugate gradients spell out."""
    diagonal = 1 / steps
    diagonal[1:] += ratios / steps[:-1]
    return float(eigvalsh_tridiagonal(diagonal, np.sqrt(ratios) / steps[:-1])[0])


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product over all entries, summed in float64."""
    return (a * b).sum(dtype=torch.float64).item()
