"""Rows and their loss where each rank of a torch.distributed group holds a part of the rows.

Every pass over the rows ends in one sum over the ranks: of the gradient and the value, of a Hessian product, of the
class curvature. All ranks then take the same steps, since all of them see the same sums.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from probe.core.base import IntArray
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.multinomial import MultinomialLoss


class SharedRows(EigenRows):
    """`EigenRows` in the eigenbasis of the rows of all ranks; chunks are those of this one."""

    def __init__(self, X: Any, *, scaling: str = "none", device: str = "cpu", group: Any = None):
        self.group = group
        super().__init__(X, scaling=scaling, device=device)

    def _summed(self, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total, group=self.group)
        return total

    def _agreed(self, tensor: Tensor) -> Tensor:
        # Two machines may well give an eigenvector opposite signs.
        first = tensor.contiguous()
        dist.broadcast(first, 0 if self.group is None else dist.get_global_rank(self.group, 0), group=self.group)
        return first


class SharedLoss(MultinomialLoss):
    """`MultinomialLoss` over the rows of all ranks; every rank has to call the same methods in the same order."""

    features: SharedRows

    def __init__(self, features: SharedRows, codes: IntArray, n_classes: int):
        super().__init__(features, codes, n_classes)
        self.counts = features._summed(self.counts)

    def value_and_gradient(self, *args: Any, **options: Any) -> tuple[float, Tensor]:
        value, gradient = super().value_and_gradient(*args, **options)
        own = torch.cat([gradient.double().flatten(), gradient.new_tensor([value], dtype=torch.float64)])
        total = self.features._summed(own)
        return total[-1].item(), total[:-1].view_as(gradient).to(gradient.dtype)

    def hessian_product(self, theta: Tensor, direction: Tensor) -> Tensor:
        return self.features._summed(super().hessian_product(theta, direction))

    def class_curvature(self, theta: Tensor) -> Tensor:
        return self.features._summed(super().class_curvature(theta))

    def likely(self, theta: Tensor) -> None:
        """Ranks would have to agree on what pays: the curvature of each class alone preconditions."""

    def own_curvature(self, theta: Tensor) -> Tensor:
        return self.features._summed(super().own_curvature(theta))
