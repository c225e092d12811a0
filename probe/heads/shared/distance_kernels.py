"""Gaussian and Laplace kernels in units of the median distance of the training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.core.errors import InputError
from probe.heads.shared.kernel_head import KernelSolver

KERNELS = ("gaussian", "laplace")


class DistanceKernel(KernelSolver):
    """k(x, z) = exp(-d^2 / (2 (w m)^2)), or exp(-d / (w m)); the parameters are those of `head=kernel`."""

    axis: ClassVar[str] = "width"
    searches: ClassVar[Mapping[str, str]] = {"width": "widths", "alpha": "alphas"}
    unordered: ClassVar[tuple[str, ...]] = ("widths", "alphas")
    median_: float

    def __init__(
        self,
        kernel: str = "gaussian",
        widths: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
        alphas: int | Sequence[float] = 17,
        max_exact: int = 5000,
        n_landmarks: int = 2000,
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.kernel = kernel
        self.widths = widths
        self.alphas = alphas
        self.max_exact = max_exact
        self.n_landmarks = n_landmarks
        self.refit = refit
        self.random_state = random_state
        self.device = device

    def check_parameters(self) -> None:
        super().check_parameters()
        wrong = []
        if self.kernel not in KERNELS:
            wrong.append(f"kernel is {self.kernel!r}, expected {' or '.join(KERNELS)}")
        if not len(self.widths) or not all(0 < width < np.inf for width in self.widths):
            wrong.append(f"widths is {self.widths!r}, expected numbers above 0")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def _measure(self, rows: NDArray[np.float64]) -> None:
        sample = torch.from_numpy(rows)
        apart = squared_distances(sample, sample)[tuple(torch.triu_indices(len(rows), len(rows), 1))]
        apart = apart[apart > 0]
        self.median_ = float(apart.median().sqrt()) if len(apart) else 1.0

    def _kernel(self, left: Tensor, right: Tensor, value: Any, *, scored: bool = False) -> Tensor:
        squares = squared_distances(left, right) / (value * self.median_) ** 2
        return torch.exp(-squares / 2) if self.kernel == "gaussian" else torch.exp(-squares.sqrt())


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """(n, m); of a row from itself exactly 0."""
    shift = right.mean(0)
    left, right = left - shift, right - shift
    squares = left.square().sum(1)[:, None] + right.square().sum(1) - 2 * left @ right.T
    rounding = 1e-14 * (left.square().sum(1)[:, None] + right.square().sum(1))
    return torch.where(squares > rounding, squares, 0.0)
