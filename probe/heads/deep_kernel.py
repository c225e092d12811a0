"""Kernel ridge regression with the kernel of an infinitely wide network, of one layer or of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.core.errors import InputError
from probe.heads.shared.deep_kernels import DUALS, log_kernels
from probe.heads.shared.kernel_head import KernelHead

KERNELS = ("ntk", "nngp")


class DeepKernel(KernelHead):
    """Least squares on +-1 with the kernel of an infinitely wide network of each of several depths, no intercept.

    `ntk` is the network as gradient descent trains it, `nngp` with a trained last layer alone, see
    `probe.heads.shared.deep_kernels` for both; here over their value for a row and itself. They look at the angle
    between rows, which must not exceed 90 degrees: features that no activation made non-negative are refused. What
    many layers come to hangs on the activation: the nearest neighbour (`hermite_2`, `hermite_3`), the majority
    (`relu`), or votes by a power of the distance (`erf`, `sine_2.676`, `3d_opt`, `5d_opt`).

    Depth and penalty are those of best accuracy on the validation rows, see `kernel`, which shares the rest.

    Source: Radhakrishnan, Belkin, Uhler, "Wide and deep neural networks achieve optimality for classification", 2022,
    arXiv 2204.14126. Departure: a penalty.

    Args:
        kernel: `ntk` or `nngp`.
        activation: `relu`, `erf`, `sine_2.676`, `hermite_2`, `hermite_3`, `3d_opt` or `5d_opt`.
        depths: Numbers of hidden layers to choose from.
        lift: Whether a cosine c counts as (1 + c) / 2, as of unit rows with one constant more; false is for features
            that an activation made non-negative, as in the source, and refuses others.
        alphas: Penalties to choose from, or how many, log-spaced between 1e-8 and 1e8.
        max_exact: Up to so many rows, validation rows included, all are kept.
        n_landmarks: Rows that are kept where there are more.
        refit: Whether the chosen candidate is fitted again on training and validation rows.
        random_state: Seeds the landmarks and, without validation rows, the choice of a tenth as such.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        rows_, coef_: (m, D) and (m, K): scores are k(x, rows_) coef_, each row's over its largest entry of k.
        depth_, alpha_: The candidate chosen.
        selection_: What was searched; absent where there was one candidate.
    """

    axis: ClassVar[str] = "depth"
    centred: ClassVar[bool] = False
    searches: ClassVar[Mapping[str, str]] = {"depth": "depths", "alpha": "alphas"}
    unordered: ClassVar[tuple[str, ...]] = ("depths", "alphas")

    def __init__(
        self,
        kernel: str = "ntk",
        activation: str = "relu",
        depths: Sequence[int] = (1, 3, 5),
        lift: bool = True,
        alphas: int | Sequence[float] = 17,
        max_exact: int = 5000,
        n_landmarks: int = 2000,
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.kernel = kernel
        self.activation = activation
        self.depths = depths
        self.lift = lift
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
        if self.activation not in DUALS:
            wrong.append(f"activation is {self.activation!r}, expected one of {', '.join(DUALS)}")
        if not len(self.depths) or not all(depth >= 1 and int(depth) == depth for depth in self.depths):
            wrong.append(f"depths is {self.depths!r}, expected whole numbers from 1")
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def _measure(self, rows: NDArray[np.float64]) -> None:
        least = float(cosines(torch.from_numpy(rows), torch.from_numpy(rows)).min())
        if least < -1e-6 and not self.lift:
            raise InputError(
                f"rows are as far apart as a cosine of {least:.2f}, without lift the head is for features that are not "
                "negative: set head.lift=true, or read a layer behind a ReLU"
            )

    def _kernel(self, left: Tensor, right: Tensor, value: Any, *, scored: bool = False) -> Tensor:
        angles = (1 + cosines(left, right)) / 2 if self.lift else cosines(left, right)
        found = log_kernels(angles, self.activation, int(value))[self.kernel == "ntk"]
        own = log_kernels(left.new_ones(1), self.activation, int(value))[self.kernel == "ntk"]
        # Of a new row only the ratios count, and those are left where all entries are below any number.
        return torch.exp(found - (found.amax(1, keepdim=True).clamp(min=-1e300) if scored else own))


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """(n, m) between rows; exactly 1 of equal ones, and of a row of zeros 0."""
    left, right = (rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-300) for rows in (left, right))
    found = left @ right.T
    return torch.where(found > 1 - 1e-14, 1.0, found)
