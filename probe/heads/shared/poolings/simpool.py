"""SimPool: the mean token asks, normalised tokens answer."""

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


class SimPool(Pooling):
    """sum_t softmax_t((W_q mean x).(W_k z_t) / sqrt(d)) z_t, z = LayerNorm(x), in H heads.

    The query is made of tokens as they are: scaling them changes the attention.

    Source: Psomas, Kakogeorgiou, Karantzalos, Avrithis, "Keep It SimPool: Who Said Supervised Transformers Suffer from
    Attention Deficit?", ICCV 2023, arXiv 2309.06891; without the exponent gamma.

    Args:
        token_width: D.
        n_heads: A divisor of D.
    """

    def __init__(self, token_width: int, n_heads: int = 1):
        super().__init__()
        self.width, self.n_heads = token_width, divisor_near(1, token_width, n_heads, "n_heads")
        self.norm_patches = nn.LayerNorm(token_width, eps=1e-6)
        self.wq, self.wk = (nn.Linear(token_width, token_width, bias=False) for _ in range(2))

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        normed = self.norm_patches(tokens)
        queries, keys = self.wq(mean_token(tokens, mask)), self.wk(normed)
        queries, keys, values = (split_heads(x, self.n_heads) for x in (queries, keys, normed))
        A = attention(queries, keys, mask)
        return merge_heads(A @ values)[:, 0], maps(A)
