"""Attention-based multiple-instance pooling: a small network scores each token."""

from __future__ import annotations

from torch import Tensor, nn

from probe.core.errors import InputError
from probe.heads.shared.poolings.parts import Mask, Pooled, Pooling, attention, masked_softmax

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
SEES_OTHERS = ("none", "map", "both")


class SelfAttention(nn.Module):
    """Tokens that have seen each other: one head, W_p sum_t softmax_t(q.k_t / sqrt(D)) v_t."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Mask) -> Tensor:
        queries, keys, values = self.qkv(tokens)[:, None].chunk(3, dim=-1)
        return self.proj((attention(queries, keys, mask) @ values)[:, 0])


class ABMILP(Pooling):
    """sum_t A_t x_t, A = softmax_t(MLP(x_t)), the network ending in one unit.

    Sources: Ilse, Tomczak, Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018, arXiv 1802.04712;
    with self-attention Rymarczyk et al., "Kernel Self-Attention for Weakly-supervised Image Classification using Deep
    Multiple Instance Learning", WACV 2021, arXiv 2005.12991.

    Args:
        token_width: D.
        depth: Linear layers of the network, from 1.
        activation: `tanh` or `relu`, between them.
        self_attention: What is made of tokens that have seen each other: `none`, `map`: the scores, `both`: the values
            too.
    """

    def __init__(self, token_width: int, depth: int = 2, activation: str = "tanh", self_attention: str = "both"):
        super().__init__()
        if depth < 1:
            raise InputError(f"depth is {depth}, expected a whole number from 1: set it in options")
        for name, value, known in (
            ("activation", activation, tuple(ACTIVATIONS)),
            ("self_attention", self_attention, SEES_OTHERS),
        ):
            if value not in known:
                raise InputError(f"{name} is {value!r}: choose one of {', '.join(known)} in options")
        self.width, self.self_attention = token_width, self_attention
        self.self_attn = None if self_attention == "none" else SelfAttention(token_width)
        layers: list[nn.Module] = []
        for _ in range(depth - 1):
            layers += [nn.Linear(token_width, token_width), ACTIVATIONS[activation]()]
        self.attention_predictor = nn.Sequential(*layers, nn.Linear(token_width, 1))

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        scored = tokens if self.self_attn is None else self.self_attn(tokens, mask)
        values = scored if self.self_attention == "both" else tokens
        scores = self.attention_predictor(scored).transpose(1, 2)
        A_B1T = masked_softmax(scores, None if mask is None else mask[:, None])
        return (A_B1T @ values)[:, 0], A_B1T
