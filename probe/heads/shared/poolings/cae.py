"""The attentive probe of the context autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probe.heads.shared.poolings.parts import (
    Mask,
    Pooled,
    Pooling,
    attention,
    divisor_near,
    maps,
    merge_heads,
    split_heads,
)


class CAE(Pooling):
    """W_p sum_t softmax_t((W_q LN_q u).(W_k LN_k x_t) / sqrt(d)) W_v LN_v x_t, in H heads.

    The query starts at zero, which the LayerNorm keeps: training begins with uniform attention.

    Source: Chen et al., "Context Autoencoder for Self-Supervised Representation Learning", IJCV 2023, arXiv 2202.03026.

    Args:
        token_width: D.
        n_heads: A divisor of D; None: 8, or the largest divisor that it shares with D.
    """

    def __init__(self, token_width: int, n_heads: int | None = None):
        super().__init__()
        self.width, self.n_heads = token_width, divisor_near(8, token_width, n_heads, "n_heads")
        self.query_token = nn.Parameter(torch.zeros(1, 1, token_width))
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(token_width) for _ in range(3))
        self.q, self.k, self.v = (nn.Linear(token_width, token_width, bias=False) for _ in range(3))
        self.proj = nn.Linear(token_width, token_width)

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        parts = self.q(self.norm1_q(self.query_token)), self.k(self.norm1_k(tokens)), self.v(self.norm1_v(tokens))
        queries, keys, values = (split_heads(x, self.n_heads) for x in parts)
        A = attention(queries, keys, mask)
        return self.proj(merge_heads(A @ values)[:, 0]), maps(A)
