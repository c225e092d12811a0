"""Many linear classifiers on the same labels, each with features of its own, solved as one problem.

What `newton.py` does for one problem, step by step, for G of them at once: a grid of small problems costs little more
than its products of matrices. Each keeps its own steps, accuracy and certificate; those that are done drop out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from probe.heads.linalg.conjugate import MAX_CG_STEPS
from probe.heads.linalg.grid_losses import GridLoss
from probe.heads.linalg.newton import LOOSEST, Solution

BATCH_BYTES = 9 * 2**20
"""Rows and logits of the problems that are solved together: few enough to stay near the
processor, and not to wait long for the slowest of them."""
HALVINGS = 12


@dataclass
class _Points:
    """Of each problem f = C * loss + 1/2 ||W||^2 and its gradient at one theta."""

    theta: Tensor
    loss: Tensor
    value: Tensor
    gradient: Tensor
    residuals: Tensor

    @classmethod
    def at(cls, loss: GridLoss, theta: Tensor, C: Tensor) -> _Points:
        sums, gradient, residuals = loss.value_gradient_residuals(theta)
        gradient = gradient * C[:, None, None].to(gradient.dtype)
        gradient[..., :-1] += theta[..., :-1]
        return cls(theta, sums, _objective(sums, theta, C), gradient, residuals)

    def take(self, places: Tensor) -> _Points:
        if len(places) == len(self.theta):
            return self
        return _Points(*(getattr(self, field.name)[places] for field in fields(self)))

    def put(self, places: Tensor, others: _Points) -> None:
        """Writes some problems' points over those that stand here."""
        for field in fields(self):
            getattr(self, field.name)[places] = getattr(others, field.name)


def _objective(loss: Tensor, theta: Tensor, C: Tensor) -> Tensor:
    return C * loss + 0.5 * theta[..., :-1].double().square().sum(dim=(1, 2))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(G,) inner products, summed in float64."""
    return (a * b).flatten(1).sum(1, dtype=torch.float64)


def solve_grid(
    loss: GridLoss, Cs: Tensor, *, tol: float, max_iter: int, start: Tensor | None = None
) -> list[list[Solution]]:
    """Minimises C * loss + 1/2 ||W||^2 of each problem for each of its ascending Cs, as `solve_path` does.

    Args:
        loss: The problems.
        Cs: (P, G) ascending for each problem.
        tol: As in `solve_path`.
        max_iter: Newton steps per C.
        start: (G, K, R + 1).

    Returns:
        By problem its P solutions; what has not converged, as where float32 has too few digits, says so.
    """
    Cs = Cs.to(loss.columns.device, torch.float64)
    softest = torch.full_like(Cs[0], math.inf)
    past: list[_Points] = []
    found: list[list[Solution]] = [[] for _ in range(len(loss))]
    for i, C in enumerate(Cs):
        point = _ahead(loss, Cs[max(0, i - 2) : i], past, C) if past else None
        if point is None:
            point = _Points.at(loss, loss.prior() if start is None else start, C)
        gap, softest, n_iter, converged = _newton(loss, point, C, tol, max_iter, softest / (2 * C))
        norms = point.gradient.double().flatten(1).norm(dim=1)
        told = torch.stack([point.value, point.loss, norms, gap, softest, n_iter, converged.double()]).T.tolist()
        for g, (value, total, norm, apart, soft, steps, done) in enumerate(told):
            found[g].append(
                Solution(point.theta[g].clone(), value, total, norm, apart, soft, int(steps), converged=bool(done))
            )
        softest = softest * C
        past = [*past[-1:], point]
    return found


def _ahead(loss: GridLoss, Cs: Tensor, past: Sequence[_Points], C: Tensor) -> _Points:
    """On the line in log C through the last solutions, or at the last one where f is lower."""
    last = past[-1]
    theta = last.theta
    if len(past) > 1:
        share = (C.log() - Cs[-1].log()) / (Cs[-1].log() - Cs[0].log())
        theta = theta + share.to(theta.dtype)[:, None, None] * (theta - past[0].theta)
    point = _Points.at(loss, theta.clone(), C)
    worse = torch.nonzero(point.value > _objective(last.loss, last.theta, C))[:, 0]
    if len(worse):
        point.put(worse, _Points.at(loss.take(worse), last.theta[worse], C[worse]))
    return point


def _newton(
    loss: GridLoss, point: _Points, C: Tensor, tol: float, max_iter: int, softest: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Moves `point` to the optima; gaps, the softest curvatures, steps taken, and which problems have converged."""
    allowed_of_rows = tol * C * loss.n_rows
    n_iter, gap, softest = torch.zeros_like(C), torch.zeros_like(C), softest.clone()
    stalled = torch.zeros_like(C, dtype=torch.bool)
    places = torch.arange(len(C), device=C.device)
    while True:
        part, at, c = loss.take(places), point.take(places), C[places]
        precondition = part.preconditioner(at.residuals, c)
        gap[places] = _gap(at.gradient, precondition(at.gradient), softest[places])
        allowed = torch.minimum(allowed_of_rows, LOOSEST * point.value)
        open_ = (gap > allowed) & ~stalled & (n_iter < max_iter)
        left = torch.nonzero(open_[places])[:, 0]
        if not len(left):
            return gap, softest, n_iter, gap <= allowed
        if len(left) <= 3 * len(places) // 4:  # fewer are not worth a copy of the rows
            places = places[left]
            part, at, c = part.take(left), at.take(left), c[left]
            precondition = part.preconditioner(at.residuals, c)
        accuracy = (0.7 * (allowed[places] / gap[places]).sqrt()).clamp(min=0.02)
        direction, softest[places] = _directions(part, at, c, precondition, accuracy)
        better, moved = _search(part, at, direction, c)
        point.put(places, better)
        stalled[places] = ~moved
        n_iter[places] += moved.double()


def _gap(gradient: Tensor, step: Tensor, softest: Tensor) -> Tensor:
    """As `newton._gap`."""
    bound = _dot(gradient[..., :-1], gradient[..., :-1]) + _dot(gradient[..., -1:], step[..., -1:])
    within = _dot(gradient, step) / softest.clamp(max=0.5)
    return 0.5 * torch.where(softest.isinf(), bound, torch.minimum(bound, within))


def _search(loss: GridLoss, point: _Points, direction: Tensor, C: Tensor) -> tuple[_Points, Tensor]:
    """Of each problem the first of the steps 1, 1/2, 1/4, ... that decreases f enough, and whether there was one."""
    slope = _dot(point.gradient, direction)
    rounding = torch.finfo(point.theta.dtype).eps * point.value
    found = _Points.at(loss, point.theta + direction, C)
    for halvings in range(1, HALVINGS):
        short = found.value > point.value + 1e-4 * 0.5 ** (halvings - 1) * slope
        places = torch.nonzero(short & (slope.abs() * 0.5**halvings > rounding))[:, 0]
        if not len(places):
            break
        theta = point.theta[places] + 0.5**halvings * direction[places]
        found.put(places, _Points.at(loss.take(places), theta, C[places]))
    worse = found.value > point.value
    back = torch.nonzero(worse)[:, 0]
    if len(back):
        found.put(back, point.take(back))
    return found, ~worse


def _directions(
    loss: GridLoss, point: _Points, C: Tensor, precondition: Callable[[Tensor], Tensor], accuracy: Tensor
) -> tuple[Tensor, Tensor]:
    """Solves H p = -gradient of each problem as `conjugate_gradients` does; also the smallest Ritz values."""
    solution = torch.zeros_like(point.gradient)
    residual = -point.gradient
    conjugate = preconditioned = precondition(residual)
    size = first = _dot(residual, preconditioned)
    open_ = first > 0
    steps, ratios, counted = [], [], []
    c = C.to(residual.dtype)[:, None, None]
    for _ in range(MAX_CG_STEPS):
        product = c * loss.hessian_product(point.residuals, conjugate)
        product[..., :-1] += conjugate[..., :-1]
        curvature = _dot(conjugate, product)
        open_ = open_ & (curvature > 0)
        if not open_.any():
            break
        step = torch.where(open_, size / curvature, 0)
        solution = solution + step.to(residual.dtype)[:, None, None] * conjugate
        residual = residual - step.to(residual.dtype)[:, None, None] * product
        preconditioned = precondition(residual)
        size, last = _dot(residual, preconditioned), size
        steps.append(step)
        ratios.append(torch.where(open_, size / last, 0))
        counted.append(open_)
        open_ = open_ & (size > accuracy**2 * first)
        if not open_.any():
            break
        conjugate = preconditioned + ratios[-1].to(residual.dtype)[:, None, None] * conjugate
    if not steps:
        return precondition(-point.gradient), torch.ones_like(C)
    return solution, _smallest_ritz_values(torch.stack(steps, 1), torch.stack(ratios, 1), torch.stack(counted, 1))


def _smallest_ritz_values(steps: Tensor, ratios: Tensor, counted: Tensor) -> Tensor:
    """(G,) of the Lanczos matrices that steps and ratios spell out, (G, m) each, where they were counted."""
    diagonal = torch.where(counted, 1 / steps, 1.0)
    both = counted[:, 1:]
    off = torch.where(both, ratios[:, :-1].clamp(min=0).sqrt() / steps[:, :-1], 0.0)
    diagonal[:, 1:] += torch.where(both, ratios[:, :-1] / steps[:, :-1], 0.0)
    return torch.linalg.eigvalsh(torch.diag_embed(diagonal) + torch.diag_embed(off, 1) + torch.diag_embed(off, -1))[
        :, 0
    ].clamp(min=1e-12)
