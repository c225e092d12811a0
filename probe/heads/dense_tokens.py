"""Learned tokens, one per class, that look at the places of a map and are looked at: masks as their products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from probe.core.errors import InputError
from probe.heads.shared.dense_head import DenseHead
from probe.heads.shared.dense_training import Standardised
from probe.heads.shared.module_solver import Batch


class DenseTokens(DenseHead):
    """A token per class and a two-way transformer between tokens and places; logits are their products, finer by 4.

    The decoder of SegFace (Narayan, VS, Patel, "SegFace: Face Segmentation of Long-Tail Classes", AAAI 2025, arXiv
    2412.08647), which is that of SAM (Kirillov et al., 2023, arXiv 2304.02643) with class tokens: places are projected
    to `dim` and get random Fourier positions; each of `depth` blocks has self-attention of the tokens, attention from
    tokens to places, an MLP, and attention from places to tokens; a last one goes from tokens to places. Places are
    upscaled by 4 with two transposed convolutions, and the logit of a class is the product of a pixel with its token
    behind an MLP of three layers. For rare classes, which a linear head drowns in the background.

    Departures: the backbone is frozen, features are normalised over all training places, a bias per class starts at
    the log share of its pixels, MLPs are half as wide, and the learning rate rises over three tenths of the steps and
    falls along a half cosine. With `depth=0` only the projection and the tokens are left, a linear map of rank `dim`.

    Args:
        dim: Width of tokens and places, a multiple of 8 and of 2 `heads`.
        depth: Blocks of the transformer.
        heads: Of each attention; those between tokens and places work at half the width, as in SAM.
        mlp: Width of the MLP of a block, in `dim`.
        lrs: Learning rates of AdamW, trained side by side.
        epochs: Passes over the images.
        batch_size: Images per step.
        weight_decay: Of all matrices.
        dice: Share of the Dice loss, the rest is cross-entropy.
        refit: Whether the chosen learning rate is trained again on training and validation images.
        random_state: Seeds the start, the batches and, without validation images, the choice of a tenth as such.
        device: `cpu`, `cuda`, or `auto`.
    """

    warmup: ClassVar[float] = 0.3

    def __init__(
        self,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        mlp: int = 4,
        lrs: Sequence[float] = (0.002,),
        epochs: int = 12,
        batch_size: int = 50,
        weight_decay: float = 0.00001,
        dice: float = 0.5,
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.dim = dim
        self.depth = depth
        self.heads = heads
        self.mlp = mlp
        self.lrs = lrs
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.dice = dice
        self.refit = refit
        self.random_state = random_state
        self.device = device

    def check_parameters(self) -> None:
        super().check_parameters()
        if self.depth < 0 or self.heads < 1 or self.mlp < 1:
            raise InputError(
                f"depth is {self.depth}, heads {self.heads} and mlp {self.mlp}, expected at least 0, 1 and 1: set so"
            )
        if self.dim < 8 or self.dim % 8 or self.dim % (2 * self.heads):
            raise InputError(
                f"dim is {self.dim} with {self.heads} heads, expected a multiple of 8 and of {2 * self.heads}: set "
                "head.dim=64 head.heads=4"
            )

    def _module(self) -> nn.Module:
        bias = torch.as_tensor(np.log(self.shares_), dtype=torch.float32)
        norm = Standardised(self.mean_, self.scale_)
        return ClassTokens(norm, bias, self.dim, self.depth, self.heads, self.mlp)


class ClassTokens(nn.Module):
    """The decoder; {"map": (B, C, h, w)} -> logits (B, K, 4 h, 4 w), or (B, K, h, w) with depth 0."""

    positions: Tensor

    def __init__(self, norm: Standardised, bias: Tensor, dim: int, depth: int, heads: int, mlp: int):
        super().__init__()
        self.norm = norm
        self.project = nn.Conv2d(len(norm.mean), dim, 1, bias=False)
        self.tokens = nn.Parameter(torch.randn(len(bias), dim))
        self.bias = nn.Parameter(bias.clone())
        self.register_buffer("positions", torch.randn(2, dim // 2))
        self.blocks = nn.ModuleList(_TwoWay(dim, heads, mlp) for _ in range(depth))
        if depth:
            self.last = _Attention(dim, dim // 2, heads)
            self.last_norm = nn.LayerNorm(dim)
            self.upscale = nn.Sequential(
                nn.ConvTranspose2d(dim, dim // 4, 2, 2), _ChannelNorm(dim // 4), nn.GELU(),
                nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2), nn.GELU(),
            )  # fmt: skip
            self.reduce = nn.Sequential(
                nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim // 8)
            )

    def forward(self, batch: Batch) -> Tensor:
        places = self.project(self.norm(batch["map"]))
        grid = places.shape[2:]
        tokens = self.tokens.expand(len(places), -1, -1)
        if len(self.blocks):
            asked, where = tokens, self._where(*grid).to(places)
            flat = places.flatten(2).transpose(1, 2)
            for block in self.blocks:
                tokens, flat = block(tokens, flat, asked, where)
            tokens = self.last_norm(tokens + self.last(tokens + asked, flat + where, flat))
            places = self.upscale(flat.transpose(1, 2).unflatten(2, grid))
            tokens = self.reduce(tokens)
        return torch.einsum("bkd,bdhw->bkhw", tokens, places) + self.bias[:, None, None]

    def _where(self, height: int, width: int) -> Tensor:
        """(h w, dim) random Fourier features of the centre of each place, from -1 to 1."""
        y, x = ((2 * torch.arange(side, device=self.positions.device) + 1) / side - 1 for side in (height, width))
        at = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], 2).to(self.positions)
        angles = 2 * math.pi * at.flatten(0, 1) @ self.positions
        return torch.cat([angles.sin(), angles.cos()], 1)


class _ChannelNorm(nn.LayerNorm):
    """Layer normalisation of the channels of each place, (B, C, h, w)."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.movedim(1, 3)).movedim(3, 1)


class _Attention(nn.Module):
    def __init__(self, dim: int, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, width) for _ in range(3))
        self.out = nn.Linear(width, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = (self.query(query), self.key(key), self.value(value))
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        found: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return found


class _TwoWay(nn.Module):
    """Tokens among each other, tokens to places, an MLP of the tokens, places to tokens; a norm behind each."""

    def __init__(self, dim: int, heads: int, mlp: int):
        super().__init__()
        self.among = _Attention(dim, dim, heads)
        self.to_places, self.to_tokens = (_Attention(dim, dim // 2, heads) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(dim, mlp * dim), nn.ReLU(), nn.Linear(mlp * dim, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4))

    def forward(self, tokens: Tensor, places: Tensor, asked: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.norms[0](tokens + self.among(tokens + asked, tokens + asked, tokens))
        tokens = self.norms[1](tokens + self.to_places(tokens + asked, places + where, places))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        places = self.norms[3](places + self.to_tokens(places + where, tokens + asked, tokens))
        return tokens, places
