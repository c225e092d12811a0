"""Kernel ridge regression with a Gaussian or a Laplace kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.core.errors import InputError
from probe.heads.shared.kernel_head import KernelHead

KERNELS = ("gaussian", "laplace")


class KernelProbe(KernelHead):
    """Least squares on +-1 with a kernel: minimises sum_i |y_i - f(x_i) - b|^2 + alpha |f|^2, b without penalty.

    k(x, z) = exp(-d^2 / (2 (w m)^2)) (`gaussian`) or exp(-d / (w m)) (`laplace`), d the Euclidean distance, m the
    median distance of the training rows and w the width. The larger the width, the more alike it is to `ridge`.

    Every penalty comes from one eigendecomposition of the kernel between the rows, for each width. Above `max_exact`
    rows, landmarks drawn uniformly stand for them (Nyström). Width and penalty are those of best accuracy on the
    validation rows, ties go to the smaller squared error; they are then fitted on both sets of rows. Without validation
    rows, a stratified tenth stands in for them; where fewer than 200 rows validate, a run chooses on 5 folds of these
    and the training rows instead. Scores are regressions, no log-probabilities. Features in double
    precision and the kernel, up to `max_exact` squared, are held in memory.

    Args:
        kernel: `gaussian` or `laplace`.
        widths: Multiples of the median distance to choose from.
        alphas: Penalties to choose from, or how many, log-spaced between 1e-8 and 1e8.
        max_exact: Up to so many rows, validation rows included, all are kept.
        n_landmarks: Rows that are kept where there are more.
        refit: Whether the chosen candidate is fitted again on training and validation rows.
        random_state: Seeds the landmarks and, without validation rows, the choice of a tenth as such.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        rows_, coef_, intercept_: (m, D), (m, K), (K,): scores are k(x, rows_) coef_ + intercept_.
        median_: Median distance of the training rows.
        width_, alpha_: The candidate chosen.
        selection_: What was searched; absent where there was one candidate.
    """

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
