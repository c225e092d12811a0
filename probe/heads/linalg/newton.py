"""The whole regularisation path of logistic regression by preconditioned Newton steps.

What one C teaches of the curvature serves the next: see `recycled.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from probe.core.terminal import lasting
from probe.heads.linalg.conjugate import conjugate_gradients, dot
from probe.heads.linalg.likely import LikelyPreconditioner
from probe.heads.linalg.losses import LinearLoss, Preconditioner
from probe.heads.linalg.recycled import RecycledCurvature

FINEST, FINEST_OF_LIKELY = 0.02, 0.3
"""Of the length of a gradient, what a Newton step may leave; with likely classes, a product costs half a step."""
TRUST, TRUST_OF_LIKELY = 0.5, 0.1
"""The softest curvature beside a preconditioner's that is believed, as few steps see little; likely classes, which are
met by fewer still, may be stiffer than all classes."""
LOOSEST = 0.001
"""The largest gap relative to the objective: separable rows at a large C have a loss that any tolerance exceeds."""


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
        softest: The smallest curvature, relative to the preconditioner's, that was seen last.
        n_iter: Newton steps.
        converged: Whether the gap is at most tol * C per row, and a thousandth of the value.
    """

    theta: Tensor
    value: float
    loss: float
    gradient_norm: float
    gap: float
    softest: float
    n_iter: int
    converged: bool


class _Point:
    """f and its gradient at one theta; the logits (N, K) too where they are kept."""

    def __init__(self, loss: LinearLoss, theta: Tensor, C: float, logits: Tensor | None = None):
        self.theta = theta
        self.loss, self.gradient = loss.value_and_gradient(theta, logits)
        self.logits = loss.logits
        self.gradient *= C
        self.gradient[:, :-1] += theta[:, :-1]
        self.value = objective(self.loss, theta, C)


def objective(loss: float, theta: Tensor, C: float) -> float:
    """C * loss + 1/2 ||W||^2, in float64."""
    return C * loss + 0.5 * theta[:, :-1].double().square().sum().item()


def solve_path(
    loss: LinearLoss, Cs: Sequence[float], *, tol: float, max_iter: int, start: Tensor | None = None
) -> list[Solution]:
    """Minimises C * loss + 1/2 ||W||^2 for each of the ascending, distinct Cs, to within tol * C per row.

    The optimum is a smooth function of log C: each solve starts from the line through the last two. A parabola comes
    closer to an exact path, but it multiplies what the tolerance left of errors by seven, a line by three.
    """
    path: list[Solution] = []
    points: list[_Point] = []
    recycled, softest = RecycledCurvature(), math.inf
    with lasting(len(Cs)) as shown:
        for i, C in enumerate(Cs):
            if points:
                point = _ahead(loss, Cs[max(0, i - 2) : i], points, C)
            else:
                point = _Point(loss, loss.prior() if start is None else start, C)
            # Where the loss alone is flat, curvature relative to a preconditioner that takes it for curved falls as
            # 1 / C.
            point, solution = _newton(loss, point, C, tol, max_iter, recycled, softest / (2 * C), shown.nearing(i))
            shown.reach(i + 1)
            softest = solution.softest * C
            points = [*points[-1:], point]
            path.append(solution)
    return path


def _ahead(loss: LinearLoss, Cs: Sequence[float], points: Sequence[_Point], C: float) -> _Point:
    """On the line through the last solutions, or at the last one where f is lower."""
    last, xs = points[-1], np.log(Cs)
    logits = [point.logits for point in points if point.logits is not None and point.logits.dtype == last.theta.dtype]
    point = _Point(
        loss,
        _extrapolate(xs, [point.theta for point in points], math.log(C)),
        C,
        # Logits are linear in theta: none need computing.
        _extrapolate(xs, logits, math.log(C)) if len(logits) == len(points) else None,
    )
    return point if point.value <= objective(last.loss, last.theta, C) else _Point(loss, last.theta, C, last.logits)


def warn_unconverged(solutions: Sequence[Solution], Cs: Sequence[float], *, bounded: bool = False) -> None:
    """One warning for the Cs at which the solver stopped short, and a class of its own where the rows are separable.

    A loss below log(2) says that every row is on its side: a misplaced one alone costs that much. `bounded` says that
    separable rows have an optimum at any C, as of hinges.
    """
    short = [(s, C) for s, C in zip(solutions, Cs, strict=True) if not s.converged]
    separable = [C for s, C in short if s.loss < math.log(2) and not bounded]
    if separable:
        warnings.warn(
            f"the rows are separable, and as C grows the optimum runs off to infinity: the solver stopped short of it "
            f"for C = {_listed(separable)}; choose smaller Cs, or a larger max_iter",
            SeparableWarning,
            stacklevel=4,
        )
    others = [C for _, C in short if C not in separable]
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


def _newton(
    loss: LinearLoss,
    point: _Point,
    C: float,
    tol: float,
    max_iter: int,
    recycled: RecycledCurvature,
    softest: float,
    tell: Callable[[float, float], None],
) -> tuple[_Point, Solution]:
    n_iter, knew = 0, False
    while True:
        norm = point.gradient.double().norm().item()
        gradient = point.gradient.to(loss.features.dtype)
        precondition, step, lacking = _preconditioned(loss, point, C, recycled, gradient)
        knows = isinstance(precondition, LikelyPreconditioner)
        if knows != knew:
            softest, knew = math.inf, knows  # it was said of another preconditioner
        believed = None if math.isinf(softest) else min(softest, TRUST_OF_LIKELY if knows else TRUST)
        gap = _gap(gradient, step, believed, lacking, knows=knows)
        allowed = min(tol * C * loss.features.n_rows, LOOSEST * point.value)
        tell(gap, allowed)
        if gap <= allowed or n_iter == max_iter:
            break
        accuracy = max(FINEST_OF_LIKELY if knows else FINEST, 0.7 * math.sqrt(allowed / gap))
        room = 0 if knows else recycled.room(gradient)
        hessian = partial(loss.hessian_product, point.theta)
        direction, softest, seen, _ = conjugate_gradients(
            hessian, -gradient, C, precondition, accuracy, first=-step, keep=room
        )
        if loss.smooth:
            recycled.remember(seen)
            del seen, precondition  # of many classes as large as all that the next system takes
        else:
            # What one point says of curvature need not hold at the next: what a step would gain, by its own.
            softest, gap = math.inf, min(gap, -0.5 * dot(gradient, direction))
            if gap <= allowed:
                break
        better = _search(loss, point, loss.stretched(point.theta, direction, C), C)
        if better is None and point.theta.dtype == torch.float64:
            break
        # Where float32 cannot tell a decrease from rounding, values and gradients go on in float64; Hessian products
        # need not.
        point = _Point(loss, point.theta.double(), C) if better is None else better
        n_iter += 1
    softest, converged = math.inf if knew else softest, bool(gap <= allowed)
    return point, Solution(point.theta, point.value, point.loss, norm, gap, softest, n_iter, converged)


def _preconditioned(
    loss: LinearLoss, point: _Point, C: float, recycled: RecycledCurvature, gradient: Tensor
) -> tuple[Preconditioner, Tensor, float]:
    """About the inverse of the Hessian, what it makes of the gradient, and what gradient times that may lack."""
    plain = loss.preconditioner(point.theta, C)
    if isinstance(plain, LikelyPreconditioner):
        # It knows the curvature of this point, and better than what others taught.
        recycled.forget()
        return plain, *plain.within(gradient)
    precondition = recycled.preconditioner(plain, C)
    return precondition, precondition(gradient), 0.0


def _gap(gradient: Tensor, step: Tensor, believed: float | None, lacking: float, *, knows: bool) -> float:
    """Estimate of f - min f from the gradient, the preconditioned one, and the softest preconditioned curvature seen.

    Before any is seen, W's part is the bound from 1-strong convexity; the intercepts have the curvature of their step.
    Where a preconditioner mixes the two, as that of likely classes does, the sum may be half of a bound.
    """
    bound = dot(gradient[:, :-1], gradient[:, :-1]) + max(0.0, dot(gradient[:, -1], step[:, -1]))
    if believed is None:
        return bound if knows else 0.5 * bound
    of_step = (dot(gradient, step) + lacking) / believed
    return 0.5 * (of_step if knows else min(bound, of_step))


def _search(loss: LinearLoss, point: _Point, direction: Tensor, C: float) -> _Point | None:
    """The first of the steps 1, 1/2, 1/4, ... that decreases f enough; None where rounding hides any decrease."""
    slope = dot(point.gradient, direction)
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
