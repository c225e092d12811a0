"""The module of moment probing: a linear classifier on the pooled feature, another on second moments of the tokens."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.core.ragged import MASK
from probe.heads.shared.module_solver import Batch
from probe.heads.shared.moment_convolutions import centred_phases, convolved_moments
from probe.heads.shared.token_moments import (
    cross_moments,
    n_pairs,
    normalize_columns,
    split_groups,
)

PROJECTED = "projected"
FEW_TOKENS = 32
"""Up to so many the moment maps are cheaper as products of their factors than as maps."""


def reduced_side(d: int) -> int:
    """Side of a d x d moment map behind two 3 x 3 convolutions of stride 2 without padding: 128 -> 63 -> 31."""
    for _ in range(2):
        d = (d - 3) // 2 + 1
    return d


class MomentProbingModule(nn.Module):
    """Logits, or means, from `pooled` (B, D) and `tokens` (B, T, D): of a first-order and a second-order classifier."""

    def __init__(
        self,
        pooled_width: int,
        token_width: int,
        n_outputs: int,
        *,
        layout: str = "vit",
        second_moment: str = "as_released",
        hidden_width: int = 512,
        n_groups: int = 4,
        n_prefix_tokens: int = 0,
        products: str = "float32",
    ):
        super().__init__()
        self.layout, self.second_moment, self.n_groups = layout, second_moment, n_groups
        self.n_prefix_tokens, self.products = n_prefix_tokens, products
        self.n_checked = 0
        d, pairs = hidden_width // n_groups, n_pairs(n_groups)
        self.projection = nn.Linear(token_width, hidden_width)
        self.norm = nn.LayerNorm(d)
        self.reduction = nn.Sequential(
            nn.Conv2d(pairs, pairs, 3, stride=2, bias=False),
            nn.GELU(),
            nn.Conv2d(pairs, pairs, 3, stride=2, bias=False),
        )
        # 1e-6 is the eps of the released convolutional backbones; pooled maps vary little enough for it to show.
        self.pooled_norm = nn.LayerNorm(pooled_width, eps=1e-6) if layout == "cnn" else nn.Identity()
        self.first = nn.Linear(pooled_width, n_outputs)
        self.second = nn.Linear(pairs * reduced_side(d) ** 2, n_outputs)

    def product_dtype(self, tokens: Tensor) -> torch.dtype:
        """What products on the way from the tokens multiply: in training that of `products`."""
        return torch.bfloat16 if self.training and self.products == "bfloat16" else tokens.dtype

    def patches(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.n_prefix_tokens :]

    def projected(self, tokens: Tensor) -> Tensor:
        """Projected patches, (B, T, W)."""
        dtype, layer = self.product_dtype(tokens), self.projection
        projected = functional.linear(self.patches(tokens).to(dtype), layer.weight.to(dtype), layer.bias.to(dtype))
        return projected.to(tokens.dtype)

    def groups(self, projected: Tensor) -> Tensor:
        """Normalised groups of channels of projected patches, (B, G, T, d)."""
        return self.norm(split_groups(projected, self.n_groups, self.layout).transpose(1, 2)).transpose(1, 2)

    def moment_maps(self, projected: Tensor, there: Tensor | None = None) -> Tensor:
        """Column-normalised cross moments over the patches, of those that are there, (B, P, d, d)."""
        return normalize_columns(cross_moments(self.groups(projected), self.second_moment, there))

    def reduced(self, projected: Tensor, there: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What the convolutions leave of the moment maps, (B, P, n, n); of few tokens without forming the maps."""
        if projected.shape[1] > FEW_TOKENS:
            with torch.autocast(projected.device.type, dtype, enabled=dtype != projected.dtype):
                maps = self.moment_maps(projected, there).contiguous(memory_format=torch.channels_last)
                return self.reduction(maps).to(projected.dtype)
        groups = centred_phases(self.groups(projected).transpose(1, 2), self.second_moment, there)
        first, second = (cast(Tensor, self.reduction[i].weight) for i in (0, 2))
        return convolved_moments(groups, self.projection.out_features // self.n_groups, first, second, dtype)

    def forward(self, batch: Batch) -> Tensor:
        """Logits, (B, K); `projected` patches in the batch are taken as they are."""
        tokens, mask = batch["tokens"], batch.get(MASK)
        projected = batch[PROJECTED] if PROJECTED in batch else self.projected(tokens)
        reduced = self.reduced(projected, None if mask is None else self.patches(mask), self.product_dtype(tokens))
        return (self.first(self.pooled_norm(batch["pooled"])) + self.second(reduced.flatten(1))) / 2
