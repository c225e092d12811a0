"""Losses by which a teacher speaks, and how their gradients meet those of the labels on a trunk that both share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.heads.shared.module_solver import Batch, leave_gradients


def binary_kl_norm(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 sum_k KL(Ber(1/2) || Ber(sigmoid((s_k - t_k) / T))), mean over the rows.

    Equals T^2 sum_k log cosh(d_k / 2T) with d = s - t; its gradient is T/2 tanh(d_k / 2T). The released code clamps
    the sigmoid at 1e-8 and so loses the gradient where |d| > 18.4 T; the closed form needs no clamp.
    """
    x = ((logits - teacher) / (2 * temperature)).abs()
    log_cosh = x + functional.softplus(-2 * x) - math.log(2)
    return temperature**2 * log_cosh.sum(dim=1).mean()


def softmax_kd(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(t / T) || softmax(s / T)), mean over the rows (Hinton, Vinyals, Dean, 2015, arXiv 1503.02531)."""
    log_p = functional.log_softmax(logits / temperature, dim=1)
    log_q = functional.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


def align(ce: Sequence[Tensor], auxiliary: Sequence[Tensor], shared: Sequence[bool], mode: str) -> list[Tensor]:
    """Sum of two losses' gradients, the auxiliary one turned away from what harms the cross-entropy.

    g_aux <- g_aux - min(0, <g_aux, g_ce>) / |g_ce|^2 g_ce. `released` takes product and norm over all parameters,
    which leaves a conflict on the trunk, as |g_ce| counts the main head too, and pushes the main head further along
    its own gradient. `shared` takes both over the trunk alone: there the product is 0 afterwards.
    """
    if mode == "none":
        return [a + b for a, b in zip(ce, auxiliary, strict=True)]
    counted = [mode == "released" or flag for flag in shared]
    pairs = [(a, b) for a, b, flag in zip(ce, auxiliary, counted, strict=True) if flag]
    zero = ce[0].new_zeros(())
    product = sum(((a * b).sum() for a, b in pairs), zero)
    norm = sum((a.square().sum() for a, _ in pairs), zero)
    factor = torch.where(product < 0, product / norm, 0.0)
    return [a + (b - factor * a if flag else b) for a, b, flag in zip(ce, auxiliary, counted, strict=True)]


class TwoHeads(nn.Module):
    """A trunk, the main head that predicts, and an auxiliary head that only training sees."""

    def __init__(self, trunk: nn.Module, main: nn.Module, auxiliary: nn.Module | None):
        super().__init__()
        self.trunk, self.main, self.auxiliary = trunk, main, auxiliary

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the main head, (B, K)."""
        return self.main(self.trunk(batch["pooled"]))

    def both(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of the main and of the auxiliary head."""
        hidden = self.trunk(batch["pooled"])
        return self.main(hidden), self.auxiliary(hidden) if self.auxiliary is not None else hidden


def dual_backward(module: TwoHeads, ce: Tensor, auxiliary: Tensor, alignment: str) -> None:
    """Leaves the gradients of `ce + auxiliary` on the parameters, aligned as `align` does."""
    if alignment == "none":
        torch.autograd.backward(ce + auxiliary)
        return
    named = list(module.named_parameters())
    parameters = [parameter for _, parameter in named]
    g_ce, g_auxiliary = (
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        for loss in (ce, auxiliary)
    )
    aligned = align(g_ce, g_auxiliary, [name.startswith("trunk.") for name, _ in named], alignment)
    leave_gradients(parameters, aligned)
