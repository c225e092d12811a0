"""The attention pooler of CoCa: many query heads, one head of keys and values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probe.core.errors import InputError
from probe.heads.shared.poolings.parts import Mask, Pooled, Pooling, attention, maps, merge_heads, split_heads


class CoCa(Pooling):
    """W_o [sum_t softmax_t((W_q^h LN u).(W_k x_t) / sqrt(d)) W_v x_t]_h: the heads h share keys and values.

    The LayerNorm of the query has a gain and no shift; tokens are not normalised.

    Source: Yu et al., "CoCa: Contrastive Captioners are Image-Text Foundation Models", TMLR 2022, arXiv 2205.01917.
    Departure: the single query that a classifier reads; the other 195 of the released probe get no gradient.

    Args:
        token_width: D.
        n_heads: Of the query.
        head_width: d.
    """

    def __init__(self, token_width: int, n_heads: int = 8, head_width: int = 64):
        super().__init__()
        if n_heads < 1 or head_width < 1:
            raise InputError(f"n_heads is {n_heads} and head_width {head_width}, expected 1 or more: set it in options")
        self.width, self.n_heads = token_width, n_heads
        self.img_queries = nn.Parameter(torch.randn(1, token_width))
        self.norm = nn.LayerNorm(token_width, bias=False)
        self.to_q = nn.Linear(token_width, n_heads * head_width, bias=False)
        self.to_kv = nn.Linear(token_width, 2 * head_width, bias=False)
        self.to_out = nn.Linear(n_heads * head_width, token_width, bias=False)

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        queries = split_heads(self.to_q(self.norm(self.img_queries))[None], self.n_heads)
        keys, values = self.to_kv(tokens)[:, None].chunk(2, dim=-1)
        A = attention(queries, keys, mask)
        return self.to_out(merge_heads(A @ values)[:, 0]), maps(A)
