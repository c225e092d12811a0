"""The attentive probes of V-JEPA: a block of cross-attention, perhaps behind blocks of self-attention."""

from __future__ import annotations

from torch import Tensor, nn

from probe.core.errors import InputError
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


class CrossAttention(nn.Module):
    """sum_t softmax_t((W_q q).(W_k x_t) / sqrt(d)) W_v x_t, in H heads with biases, perhaps projected."""

    def __init__(self, width: int, n_heads: int, projection: bool):
        super().__init__()
        self.n_heads = n_heads
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width) if projection else nn.Identity()

    def forward(self, query: Tensor, tokens: Tensor, mask: Mask) -> Pooled:
        parts = self.q(query), *self.kv(tokens).chunk(2, dim=-1)
        queries, keys, values = (split_heads(x, self.n_heads) for x in parts)
        A = attention(queries, keys, mask)
        return self.proj(merge_heads(A @ values)), maps(A)


class CrossBlock(nn.Module):
    """q <- q + xattn(q, LN x), then q <- q + MLP(LN q); the query is normalised ahead of the MLP alone."""

    def __init__(self, width: int, n_heads: int, projection: bool, mlp_ratio: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.xattn, self.mlp = CrossAttention(width, n_heads, projection), MLP(width, mlp_ratio)

    def forward(self, query: Tensor, tokens: Tensor, mask: Mask) -> Pooled:
        seen, A = self.xattn(query, self.norm1(tokens), mask)
        query = query + seen
        return query + self.mlp(self.norm2(query)), A


class SelfAttention(nn.Module):
    """Multi-head attention of tokens among themselves."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        queries, keys, values = (split_heads(part, self.n_heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(merge_heads(attention(queries, keys, mask) @ values))


class SelfBlock(nn.Module):
    """x <- x + attn(LN x), then x <- x + MLP(LN x)."""

    def __init__(self, width: int, n_heads: int, mlp_ratio: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = SelfAttention(width, n_heads), MLP(width, mlp_ratio)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))


class JEPA(Pooling):
    """One query through a block of cross-attention; `depth - 1` blocks of self-attention refine tokens or query.

    Three probes of this name are about: V-JEPA 2 (`refines=tokens`, no projection), V-JEPA (`refines=query`, a
    projection that is defined and never applied), and the copy in the code of efficient probing (`refines=query`,
    `projection=true`).

    Sources: Bardes et al., "Revisiting Feature Prediction for Learning Visual Representations from Video", TMLR 2024,
    arXiv 2404.08471; Assran et al., "V-JEPA 2", 2025, arXiv 2506.09985.

    Args:
        token_width: D.
        n_heads: A divisor of D; None: 8, or the largest divisor that it shares with D.
        depth: Blocks, that of cross-attention among them.
        refines: What the others refine: `tokens` ahead of it, or the `query` behind it.
        projection: Whether the output of cross-attention is projected.
        complete_block: False: cross-attention alone, without norms, residuals and MLP.
        mlp_ratio: Inner width of the MLPs over D.
    """

    def __init__(
        self,
        token_width: int,
        n_heads: int | None = None,
        depth: int = 1,
        refines: str = "tokens",
        projection: bool = False,
        complete_block: bool = True,
        mlp_ratio: int = 4,
    ):
        super().__init__()
        if refines not in ("tokens", "query"):
            raise InputError(f"refines is {refines!r}: choose one of tokens, query in options")
        if depth < 1:
            raise InputError(f"depth is {depth}, expected a whole number from 1: set it in options")
        n_heads = divisor_near(8, token_width, n_heads, "n_heads")
        self.width, self.refines = token_width, refines
        self.query_tokens = small(1, 1, token_width)
        blocks = [SelfBlock(token_width, n_heads, mlp_ratio) for _ in range(depth - 1)]
        self.blocks = nn.ModuleList(blocks)
        self.cross_attention_block = (
            CrossBlock(token_width, n_heads, projection, mlp_ratio)
            if complete_block
            else CrossAttention(token_width, n_heads, projection)
        )
        # As published: what is added to a residual starts the smaller, the more has been added before.
        mlps = [block.mlp for block in blocks]
        mlps += [self.cross_attention_block.mlp] if isinstance(self.cross_attention_block, CrossBlock) else []
        for i, mlp in enumerate(mlps, start=1):
            mlp.fc2.weight.data.div_((2 * i) ** 0.5)

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        if self.refines == "tokens":
            for block in self.blocks:
                tokens = block(tokens, mask)
        query, A = self.cross_attention_block(self.query_tokens, tokens, mask)
        if self.refines == "query":
            for block in self.blocks:
                query = block(query, None)
        return query[:, 0], A
