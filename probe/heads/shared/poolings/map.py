"""Multi-head attention pooling, as SigLIP has it."""

from __future__ import annotations

from torch import Tensor, nn

from probe.heads.shared.poolings.parts import (
    MLP,
    Mask,
    Pooled,
    Pooling,
    attention,
    divisor_near,
    maps,
    merge_heads,
    small,
    split_heads,
)


class MAP(Pooling):
    """y + MLP(y), y = W_p sum_t softmax_t((W_q u).(W_k x_t) / sqrt(d)) W_v x_t, in H heads with biases.

    Sources: Lee et al., "Set Transformer", ICML 2019, arXiv 1810.00825; Zhai et al., "Sigmoid Loss for Language Image
    Pre-Training", ICCV 2023, arXiv 2303.15343. As the code of efficient probing has it, without the LayerNorm ahead of
    the MLP that SigLIP's own has: `mlp_norm` brings it in.

    Args:
        token_width: D.
        n_heads: A divisor of D; None: 8, or the largest divisor that it shares with D.
        mlp_ratio: Inner width of the MLP over D.
        mlp_norm: Whether a LayerNorm stands ahead of the MLP.
    """

    def __init__(self, token_width: int, n_heads: int | None = None, mlp_ratio: int = 4, mlp_norm: bool = False):
        super().__init__()
        self.width, self.n_heads = token_width, divisor_near(8, token_width, n_heads, "n_heads")
        self.latent = small(1, 1, token_width)
        self.q, self.kv = nn.Linear(token_width, token_width), nn.Linear(token_width, 2 * token_width)
        self.proj, self.mlp = nn.Linear(token_width, token_width), MLP(token_width, mlp_ratio)
        self.norm = nn.LayerNorm(token_width, eps=1e-6) if mlp_norm else nn.Identity()

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        parts = self.q(self.latent), *self.kv(tokens).chunk(2, dim=-1)
        queries, keys, values = (split_heads(x, self.n_heads) for x in parts)
        A = attention(queries, keys, mask)
        y = self.proj(merge_heads(A @ values)[:, 0])
        return y + self.mlp(self.norm(y)), maps(A)
