"""The attention pool of CLIP: the mean token asks, tokens know their places."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probe.core.errors import InputError
from probe.heads.shared.poolings.parts import (
    Mask,
    Pooled,
    Pooling,
    attention,
    divisor_near,
    maps,
    mean_token,
    merge_heads,
    small,
    split_heads,
)


class CLIP(Pooling):
    """Attention over z_0..z_T of z_0, W_p sum_t softmax_t(q_0.k_t / sqrt(d)) v_t, in H heads with biases.

    z_t = LayerNorm(x_t) + p_t and z_0 = mean_t LayerNorm(x_t) + p_0, with learnt places p: tied to one number of
    tokens, and the only pooling here that an order of tokens moves. Maps leave out the share of the mean token.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
    arXiv 2103.00020.

    Args:
        token_width: D.
        n_tokens: T.
        n_heads: A divisor of D; None: 8, or the largest divisor that it shares with D.
    """

    def __init__(self, token_width: int, n_tokens: int, n_heads: int | None = None):
        super().__init__()
        self.width, self.n_heads = token_width, divisor_near(8, token_width, n_heads, "n_heads")
        self.norm = nn.LayerNorm(token_width, eps=1e-6)
        self.pos_embed = small(n_tokens + 1, token_width)
        self.qkv, self.proj = nn.Linear(token_width, 3 * token_width), nn.Linear(token_width, token_width)

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        if tokens.shape[1] + 1 != len(self.pos_embed):
            raise InputError(
                f"there are {tokens.shape[1]} tokens, kind clip was fitted on {len(self.pos_embed) - 1} places: pad "
                "the tokens to as many and give their mask, or take another kind, such as ep"
            )
        normed = self.norm(tokens)
        placed = torch.cat([mean_token(normed, mask), normed], dim=1) + self.pos_embed
        of_query, of_keys, of_values = self.qkv(placed).chunk(3, dim=-1)
        queries, keys, values = (split_heads(x, self.n_heads) for x in (of_query[:, :1], of_keys, of_values))
        A = attention(queries, keys, None if mask is None else nn.functional.pad(mask, (1, 0), value=True))
        return self.proj(merge_heads(A @ values)[:, 0]), maps(A)[..., 1:]
