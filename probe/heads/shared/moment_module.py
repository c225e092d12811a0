"""The module of moment probing: a linear classifier on the pooled feature, another on second moments of the tokens."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from probe.core.ragged import MASK
from probe.heads.shared.module_solver import Batch
from probe.heads.shared.moment_convolutions import convolved_moments
from probe.heads.shared.token_moments import (
    centre_groups,
    cross_moments,
    n_pairs,
    normalize_columns,
    split_groups,
)

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

    def groups(self, tokens: Tensor) -> Tensor:
        """Normalised groups of channels of the projected patches, (B, G, T, d)."""
        projected = self.projection(tokens[:, self.n_prefix_tokens :]).to(tokens.dtype)
        return self.norm(split_groups(projected, self.n_groups, self.layout))

    def moment_maps(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Column-normalised cross moments over tokens where the mask is True, (B, P, d, d)."""
        there = None if mask is None else mask[:, self.n_prefix_tokens :]
        return normalize_columns(cross_moments(self.groups(tokens), self.second_moment, there))

    def reduced(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the convolutions leave of the moment maps, (B, P, n, n); of few tokens without forming the maps."""
        if tokens.shape[1] - self.n_prefix_tokens > FEW_TOKENS:
            return self.reduction(self.moment_maps(tokens, mask).contiguous(memory_format=torch.channels_last))
        there = None if mask is None else mask[:, self.n_prefix_tokens :]
        groups = centre_groups(self.groups(tokens), self.second_moment, there)
        first, second = (cast(Tensor, self.reduction[i].weight) for i in (0, 2))
        kind = tokens.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        with torch.autocast(kind, enabled=False):
            return convolved_moments(groups, first, second, dtype)

    def forward(self, batch: Batch) -> Tensor:
        """Logits, (B, K). In training, products on the way from the tokens are those of `products`."""
        tokens, narrow = batch["tokens"], self.training and self.products == "bfloat16"
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=narrow):
            reduced = self.reduced(tokens, batch.get(MASK)).to(tokens.dtype)
        return (self.first(self.pooled_norm(batch["pooled"])) + self.second(reduced.flatten(1))) / 2
