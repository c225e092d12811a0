"""SimPool without projections."""

from __future__ import annotations

from torch import Tensor, nn

from probe.heads.shared.poolings.parts import (
    Mask,
    Pooled,
    Pooling,
    attention,
    divisor_near,
    maps,
    mean_token,
    merge_heads,
    split_heads,
)


class EfficientSimPool(Pooling):
    """sum_t softmax_t(LayerNorm(mean x).LayerNorm(x_t) / sqrt(d)) x_t, in H heads; the norm alone is learnt.

    Source: as `ep`, Psomas et al., ICLR 2026, arXiv 2506.10178.

    Args:
        token_width: D.
        n_heads: A divisor of D; None: 8, or the largest divisor that it shares with D.
    """

    def __init__(self, token_width: int, n_heads: int | None = None):
        super().__init__()
        self.width, self.n_heads = token_width, divisor_near(8, token_width, n_heads, "n_heads")
        self.norm_patches = nn.LayerNorm(token_width, eps=1e-6)

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        parts = self.norm_patches(mean_token(tokens, mask)), self.norm_patches(tokens), tokens
        queries, keys, values = (split_heads(x, self.n_heads) for x in parts)
        A = attention(queries, keys, mask)
        return merge_heads(A @ values)[:, 0], maps(A)
