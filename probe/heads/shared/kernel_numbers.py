"""Kernel ridge regression on numbers, with a Gaussian or a Laplace kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.core.base import IntArray
from probe.core.targets.number import Number
from probe.heads.shared.distance_kernels import DistanceKernel
from probe.heads.shared.numbers import NumberHead, Numbers


class KernelNumbers(NumberHead, DistanceKernel):
    """Minimises sum_i |y_i - f(x_i) - b|^2 + alpha |f|^2 over Q columns y, b without penalty.

    Width and penalty are those of the smallest squared error, each column in units of its variance, on the validation
    rows, else on a tenth of the training rows spread over the range. The head that `head=kernel` stands for on
    numbers, with the same parameters and attributes; it has no yaml of its own.
    """

    def _strata(self, y: Any) -> IntArray:
        return Number().strata(y)

    def _targets(self, y: Any, like: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(y, dtype=np.float64)).to(like.device)

    def _agree(self, scores: Tensor, Y: Tensor, unit: Tensor) -> Tensor:
        return -((scores - Y[:, None]).square() / unit).mean(2).sum(0)

    def _means(self, X: Any) -> Numbers:
        return self._scores(X).astype(np.float64, copy=False)
