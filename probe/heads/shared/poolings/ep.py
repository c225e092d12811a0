"""Efficient probing: queries that look at the tokens themselves."""

from __future__ import annotations

import math

from torch import Tensor, nn

from probe.core.errors import InputError
from probe.heads.shared.poolings.parts import Mask, Pooled, Pooling, divisor_near, masked_softmax, small


class EfficientProbing(Pooling):
    """A_q = softmax_t(u_q.x_t / sqrt(D)), slice q of the vector = sum_t A_qt (W x_t)[slice q].

    There is no key projection. Values are D / d_out wide and cut into Q contiguous slices, one for each query. The sum
    over tokens is taken before W is applied, which is the same by linearity and T / Q times less work.

    Source: Psomas et al., "Attention, Please! Revisiting Attentive Probing Through the Lens of Efficiency", ICLR 2026,
    arXiv 2506.10178.

    Args:
        token_width: D.
        n_queries: Q, a divisor of D / d_out; None: 32, or the largest divisor that it shares with D / d_out.
        d_out: By how much values are narrower than tokens.
    """

    def __init__(self, token_width: int, n_queries: int | None = None, d_out: int = 1):
        super().__init__()
        if d_out < 1 or token_width % d_out:
            raise InputError(f"d_out is {d_out} and does not divide a width of {token_width}: set a divisor of it")
        self.width = token_width // d_out
        self.cls_token = small(1, divisor_near(32, self.width, n_queries, "n_queries"), token_width)
        self.v = nn.Linear(token_width, self.width, bias=False)

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        scores = self.cls_token @ tokens.transpose(1, 2) / math.sqrt(tokens.shape[-1])
        A_BQT = masked_softmax(scores, None if mask is None else mask[:, None])
        means_QBD = (A_BQT @ tokens).transpose(0, 1)
        values_QwD = self.v.weight.unflatten(0, (len(means_QBD), -1))
        slices_QBw = means_QBD @ values_QwD.transpose(1, 2)
        return slices_QBw.transpose(0, 1).flatten(1), A_BQT
