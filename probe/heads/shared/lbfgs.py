"""Smooth functions of a few tensors, minimised by L-BFGS in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from probe.core.terminal import lasting


def minimise(
    function: Callable[..., Tensor | tuple[Tensor, Sequence[Tensor]]],
    start: Sequence[Tensor],
    max_iter: int,
    tol: float = 1e-9,
) -> tuple[list[Tensor], float]:
    """Where SciPy's L-BFGS stops, and the value there.

    Args:
        function: Of as many tensors as `start` has; gives a scalar, or with it the gradients by them, else autograd
            finds these.
        start: First values.
        max_iter: Evaluations, at most.
        tol: It stops where a step wins less, relative to the value.
    """
    shapes = [tensor.shape for tensor in start]
    sizes = [tensor.numel() for tensor in start]
    device = start[0].device

    def parts(flat: NDArray[np.float64]) -> list[Tensor]:
        whole = torch.from_numpy(flat).to(device)
        return [part.view(shape) for part, shape in zip(whole.split(sizes), shapes, strict=True)]

    def value_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        tensors = [part.requires_grad_() for part in parts(flat)]
        found = function(*tensors)
        value, gradients = found if isinstance(found, tuple) else (found, torch.autograd.grad(found, tensors))
        return value.item(), torch.cat([gradient.flatten() for gradient in gradients]).cpu().numpy()

    def told(intermediate_result: OptimizeResult) -> None:
        values.append(float(intermediate_result.fun))
        near(values[-2] - values[-1], tol * max(map(abs, (*values[-2:], 1.0))))
        shown.reach(len(values) / max_iter)

    values = [math.inf]
    first = torch.cat([tensor.detach().double().flatten() for tensor in start]).cpu().numpy()
    # The function has threads of its own, beside which those of SciPy's short vectors wait and spin.
    with lasting(1.0) as shown, threadpool_limits(1, user_api="blas"):
        near = shown.nearing(0.0)
        found = minimize(
            value_and_gradient,
            first,
            jac=True,
            method="L-BFGS-B",
            callback=told,
            options={"maxfun": max_iter, "maxiter": max_iter, "ftol": tol, "gtol": 1e-9},
        )
    return parts(found.x), float(found.fun)
