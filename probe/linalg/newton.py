"""The whole regularisation path of multinomial logistic regression by preconditioned Newton steps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigvalsh_tridiagonal
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from probe.linalg.multinomial import KroneckerPreconditioner, MultinomialLoss

MAX_CG_STEPS = 100


class SeparableWarning(ConvergenceWarning):
    """The solver stopped short of the optimum, which runs off to infinity as C grows: the rows are separable."""


@dataclass
class Solution:
    """Where the solver stopped for one C; minimises f = C * loss + 1/2 ||W||^2.

    Attributes:
        theta: (K, R + 1) coefficients and, last, intercepts.
        value: f.
        loss: Sum of cross-entropies.
        gradient_norm: Euclidean norm of the gradient of f. f is 1-strongly convex in W, so with a vanishing gradient
            of the intercepts the optimum is at most gradient_norm^2 / 2 below.
        gap: Estimate of value - optimum.
        n_iter: Newton steps.
        converged: Whether the gap is within the tolerance.
    """

    theta: Tensor
    value: float
    loss: float
    gradient: Tensor
    gradient_norm: float
    gap: float
    n_iter: int
    converged: bool


class _Point:
    """f and its gradient at one theta."""

    def __init__(self, loss: MultinomialLoss, theta: Tensor, C: float):
        self.theta = theta
        self.loss, self.gradient = loss.value_and_gradient(theta)
        self.gradient *= C
        self.gradient[:, :-1] += theta[:, :-1]
        self.value = objective(self.loss, theta, C)


def objective(loss: float, theta: Tensor, C: float) -> float:
    """C * loss + 1/2 ||W||^2, in float64."""
    return C * loss + 0.5 * theta[:, :-1].double().square().sum().item()


def solve_path(
    loss: MultinomialLoss, Cs: Sequence[float], *, tol: float, max_iter: int, start: Tensor | None = None
) -> list[Solution]:
    """Minimises C * loss + 1/2 ||W||^2 for each of the ascending, distinct Cs.

    The optimum is a smooth function of log C: each solve starts from the parabola through the last three.
    """
    path: list[Solution] = []
    for i, C in enumerate(Cs):
        theta = loss.prior() if start is None else start
        if path:
            theta = path[-1].theta
            ahead = _extrapolate(np.log(Cs[max(0, i - 3) : i]), [s.theta for s in path[-3:]], math.log(C))
            point = _Point(loss, ahead, C)
            if point.value > objective(path[-1].loss, theta, C):
                point = _Point(loss, theta, C)
        else:
            point = _Point(loss, theta, C)
        path.append(_newton(loss, point, C, tol, max_iter))
    return path


def warn_unconverged(solutions: Sequence[Solution], Cs: Sequence[float]) -> None:
    """One warning for the Cs at which the solver stopped short, and a class of its own where the rows are separable.

    A loss below log(2) says that every row is on its side: a misplaced one alone costs that much.
    """
    short = [(s, C) for s, C in zip(solutions, Cs, strict=True) if not s.converged]
    separable = [C for s, C in short if s.loss < math.log(2)]
    if separable:
        warnings.warn(
            f"the rows are separable, and as C grows the optimum runs off to infinity: the solver stopped short of it "
            f"for C = {_listed(separable)}; choose smaller Cs, or a larger max_iter",
            SeparableWarning,
            stacklevel=4,
        )
    others = [C for s, C in short if s.loss >= math.log(2)]
    if others:
        worst = max(s.gap / s.value for s, _ in short)
        warnings.warn(
            f"the solver stopped short of tol for C = {_listed(others)}, by a gap of {worst:.0e} of the objective: "
            "scale the features, or raise tol or max_iter",
            ConvergenceWarning,
            stacklevel=4,
        )


def _listed(Cs: Sequence[float]) -> str:
    return ", ".join(f"{C:.3g}" for C in Cs)


def _extrapolate(xs: np.ndarray, thetas: Sequence[Tensor], x: float) -> Tensor:
    """Value at x of the polynomial through (xs, thetas), in Lagrange's form."""
    total = torch.zeros_like(thetas[-1])
    for j, theta in enumerate(thetas):
        others = np.delete(xs, j)
        total += float(np.prod((x - others) / (xs[j] - others))) * theta.to(total.dtype)
    return total


def _newton(loss: MultinomialLoss, point: _Point, C: float, tol: float, max_iter: int) -> Solution:
    n_iter, softest = 0, math.inf
    while True:
        precondition = KroneckerPreconditioner(loss.class_curvature(point.theta), loss.features.eigenvalues, C)
        norm = point.gradient.double().norm().item()
        gradient = point.gradient.to(loss.features.dtype)
        gap = _gap(gradient, precondition(gradient), softest)
        allowed = tol * point.value
        if gap <= allowed or n_iter == max_iter:
            break
        accuracy = max(0.02, 0.5 * math.sqrt(allowed / gap))
        direction, softest = _newton_direction(loss, point.theta, gradient, C, precondition, accuracy)
        better = _search(loss, point, direction, C)
        if better is None and point.theta.dtype == torch.float64:
            break
        # Where float32 cannot tell a decrease from rounding, values and gradients go on in float64; Hessian products
        # need not.
        point = _Point(loss, point.theta.double(), C) if better is None else better
        n_iter += 1
    return Solution(point.theta, point.value, point.loss, point.gradient, norm, gap, n_iter, gap <= allowed)


def _gap(gradient: Tensor, step: Tensor, softest: float) -> float:
    """Estimate of f - min f from the gradient, the preconditioned one, and the softest preconditioned curvature seen.

    Before any is seen, W's part is the bound from 1-strong convexity; the intercepts have the curvature of their step.
    """
    bound = _dot(gradient[:, :-1], gradient[:, :-1]) + _dot(gradient[:, -1], step[:, -1])
    if math.isinf(softest):
        return 0.5 * bound
    return 0.5 * min(bound, _dot(gradient, step) / min(softest, 0.5))


def _search(loss: MultinomialLoss, point: _Point, direction: Tensor, C: float) -> _Point | None:
    """The first of the steps 1, 1/2, 1/4, ... that decreases f enough; None where rounding hides any decrease."""
    slope = _dot(point.gradient, direction)
    rounding = torch.finfo(point.theta.dtype).eps * point.value
    for halvings in range(12):
        step = 0.5**halvings
        trial = _Point(loss, point.theta + step * direction, C)
        if trial.value <= point.value + 1e-4 * step * slope:
            return trial
        if abs(slope) * step < rounding:
            break
    loss.value_and_gradient(point.theta)
    return None


def _newton_direction(
    loss: MultinomialLoss,
    theta: Tensor,
    gradient: Tensor,
    C: float,
    precondition: KroneckerPreconditioner,
    accuracy: float,
) -> tuple[Tensor, float]:
    """Solves H p = -gradient by conjugate gradients until the preconditioned residual shrank by `accuracy`.

    Also returns the smallest Ritz value of the preconditioned Hessian: what the preconditioner says of a distance to
    the optimum is to be divided by it.
    """
    solution = torch.zeros_like(gradient)
    residual = -gradient
    conjugate = preconditioned = precondition(residual)
    size = first = _dot(residual, preconditioned)
    steps, ratios = [], []
    for _ in range(MAX_CG_STEPS):
        product = C * loss.hessian_product(theta, conjugate)
        product[:, :-1] += conjugate[:, :-1]
        curvature = _dot(conjugate, product)
        if curvature <= 0:
            break
        steps.append(size / curvature)
        solution += steps[-1] * conjugate
        residual = residual - steps[-1] * product
        preconditioned = precondition(residual)
        size, last = _dot(residual, preconditioned), size
        ratios.append(size / last)
        if size <= accuracy**2 * first:
            break
        conjugate = preconditioned + ratios[-1] * conjugate
    if not steps:
        return preconditioned, 1.0
    return solution, _smallest_ritz_value(np.array(steps), np.array(ratios[:-1]))


def _smallest_ritz_value(steps: np.ndarray, ratios: np.ndarray) -> float:
    """Of the Lanczos matrix that the step lengths and ratios of conjugate gradients spell out."""
    diagonal = 1 / steps
    diagonal[1:] += ratios / steps[:-1]
    return float(eigvalsh_tridiagonal(diagonal, np.sqrt(ratios) / steps[:-1])[0])


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.flatten().double(), b.flatten().double()).item()
