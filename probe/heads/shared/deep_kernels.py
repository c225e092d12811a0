"""Kernels of infinitely wide networks of any depth, as logarithms: deep ones fall below any floating-point number.

With psi the dual of an activation phi, psi(t) = E phi(u) phi(v) for normal u, v of variance 1 and correlation t, scaled
to psi(1) = 1, layer by layer from S = T = t: T <- T psi'(S) + psi(S), S <- psi(S). S is the kernel of the network with
random weights (NNGP), T that of its training by gradient descent (NTK).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dual:
    """Logarithms of psi and psi', as functions of t in [0, 1] and its logarithm."""

    value: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]


def polynomial(**squares: float) -> Dual:
    """psi(t) = sum of a_k^2 t^k, keys `t1`, `t2`, ...: phi a sum of Hermite polynomials with coefficients a_k."""
    powers = {int(name[1:]): square for name, square in squares.items()}

    def value(t: Tensor, log_t: Tensor) -> Tensor:
        return torch.stack([math.log(a) + k * log_t for k, a in powers.items()]).logsumexp(0)

    def slope(t: Tensor, log_t: Tensor) -> Tensor:
        # 0 times the logarithm of 0 is none.
        parts = [math.log(a * k) + (k - 1) * log_t if k > 1 else torch.full_like(t, math.log(a * k)) for k, a in
                 powers.items()]  # fmt: skip
        return torch.stack(parts).logsumexp(0)

    return Dual(value, slope)


def sine(a: float) -> Dual:
    """psi(t) = sinh(a t) / sinh(a), of phi = sin(sqrt(a) u)."""

    def value(t: Tensor, log_t: Tensor) -> Tensor:
        x = a * t
        ratio = torch.where(x > 1e-4, torch.sinh(x) / x.clamp(min=1e-4), 1 + x**2 / 6)
        return log_t + math.log(a / math.sinh(a)) + ratio.log()

    return Dual(value, lambda t, log_t: (torch.cosh(a * t) * (a / math.sinh(a))).log())


def _erf(t: Tensor, log_t: Tensor) -> Tensor:
    x = 2 * t / 3
    ratio = torch.where(x > 1e-4, torch.arcsin(x) / x.clamp(min=1e-4), 1 + x**2 / 6)
    return log_t + math.log(2 / 3 / math.asin(2 / 3)) + ratio.log()


def _erf_slope(t: Tensor, log_t: Tensor) -> Tensor:
    return (2 / 3 / math.asin(2 / 3) / (1 - (2 * t / 3) ** 2).sqrt()).log()


def _relu(t: Tensor, log_t: Tensor) -> Tensor:
    return (((1 - t**2).clamp(min=0).sqrt() + t * (math.pi - torch.arccos(t))) / math.pi).log()


DUALS: dict[str, Dual] = {
    "relu": Dual(_relu, lambda t, log_t: ((math.pi - torch.arccos(t)) / math.pi).log()),
    "erf": Dual(_erf, _erf_slope),
    "sine_2.676": sine(2.676),
    "hermite_2": polynomial(t2=1.0),
    "hermite_3": polynomial(t3=1.0),
    "3d_opt": polynomial(t1=0.5, t3=0.5),
    "5d_opt": polynomial(t1=0.25, t2=0.5, t3=0.25),
}
"""By name of the activation. With psi(0) > 0 (`relu`) depth leads to the vote of the majority; with psi(0) = psi'(0) =
0 (`hermite_2`, `hermite_3`) to the nearest neighbour; with psi'(0) > 0 (the others) to a singular kernel, of the power
-2 log psi'(0) / log psi'(1) of the distance."""


def log_kernels(cosines: Tensor, activation: str, depth: int) -> tuple[Tensor, Tensor]:
    """Logarithms of NNGP and NTK at cosines, none below 0."""
    dual = DUALS[activation]
    t = cosines.clamp(0, 1)
    S = T = t.log()
    for _ in range(depth):
        value, slope = dual.value(t, S), dual.slope(t, S)
        S, T = value.clamp(max=0), torch.logaddexp(T + slope, value)
        t = S.exp()
    return S, T
