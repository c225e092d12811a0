"""The attentive probe of AIM: queries, keys and values of normalised tokens."""

from __future__ import annotations

from torch import Tensor, nn

from probe.heads.shared.poolings.parts import (
    Mask,
    Pooled,
    Pooling,
    RunningNorm,
    attention,
    divisor_near,
    maps,
    merge_heads,
    small,
    split_heads,
)


class AIM(Pooling):
    """mean_q sum_t softmax_t(u_q.W_k z_t / sqrt(d)) W_v z_t, in H heads, z = BatchNorm(x) over rows and tokens.

    Source: El-Nouby et al., "Scalable Pre-training of Large Autoregressive Image Models", ICML 2024, arXiv 2401.08541.

    Args:
        token_width: D.
        n_queries: Of which the mean is taken.
        n_heads: A divisor of D; None: 8, or the largest divisor that it shares with D.
        token_norm: Whether tokens are normalised first.
    """

    def __init__(self, token_width: int, n_queries: int = 1, n_heads: int | None = None, token_norm: bool = True):
        super().__init__()
        self.width, self.n_heads = token_width, divisor_near(8, token_width, n_heads, "n_heads")
        self.bn = RunningNorm(token_width) if token_norm else None
        self.cls_token = small(1, n_queries, token_width)
        self.k, self.v = (nn.Linear(token_width, token_width, bias=False) for _ in range(2))

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        normed = tokens if self.bn is None else self.bn(tokens, mask)
        queries, keys, values = (split_heads(x, self.n_heads) for x in (self.cls_token, self.k(normed), self.v(normed)))
        A = attention(queries, keys, mask)
        return merge_heads(A @ values).mean(1), maps(A)
