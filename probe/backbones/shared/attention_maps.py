"""Attention weights, a number for each pair of tokens: of networks that compute them, and of those that fuse them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, scaled_dot_product_attention

from probe.core.errors import InputError

MOST_TOKENS = {"texts": 64, "images": 300}
"""Of rows whose attention weights are read."""


def patterns_of(
    attention: nn.Module,
    run: tuple[tuple[Any, ...], dict[str, Any], Any],
    backbone: Any,
    tap: str,
    read: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """(N, H, T, T) what each token takes from each other one in a layer that was just run; rows sum to 1.

    Of texts T is the most that the backbone reads, and places without a token are zero; of images T counts the prefix
    tokens too.

    Args:
        attention: The layer.
        run: Its arguments by place and by name, and what it gave.
        backbone: A `FrozenNetwork`.
        tap: For the error.
        read: (N, ...) of (N, T, ...): the tokens of which it is asked what they take, (N, H, T); None for all.

    Raises:
        InputError: The backbone reads too many tokens, or the network gives no weights.
    """
    args, kwargs, output = run
    if backbone.reads == "texts":
        return _padded(output, backbone, tap, read)
    most, n_tokens = MOST_TOKENS["images"], args[0].shape[-2]
    if n_tokens > most:
        raise InputError(
            f"tap {tap} asks for attention weights, a number per pair of tokens, of {n_tokens} tokens of backbone "
            f"{backbone.name}, expected at most {most}: choose smaller images (backbone.img_size) or larger patches"
        )
    found = (
        _of_joint(attention, args[0])
        if isinstance(attention, nn.MultiheadAttention)
        else _again(attention, args, kwargs)
    )
    if found is None or found.ndim != 4 or found.shape[-2:] != (n_tokens, n_tokens):
        raise InputError(
            f"tap {tap} asks for attention weights, which {type(attention).__name__} of backbone {backbone.name} does "
            "not show: tap :heads, :contribution or :neurons"
        )
    return found.float() if read is None else read(found.float().transpose(1, 2))


def _padded(output: Any, backbone: Any, tap: str, read: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Of a language model, which gives them where attention is eager, and nothing without a word where it is not."""
    most, n_tokens = MOST_TOKENS["texts"], getattr(backbone, "max_length", None)
    if n_tokens is None or n_tokens > most:
        raise InputError(
            f"tap {tap} asks for attention weights, a number per pair of tokens, expected texts of at most {most} "
            f"tokens: set backbone.max_length={most} or less"
        )
    weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    if weights is None:
        raise InputError(f"tap {tap} asks for attention weights, the network gives none: set backbone.attention=eager")
    mask = backbone._group["attention_mask"]
    kept = weights.float() * (mask[:, None, :, None] * mask[:, None, None, :])
    missing = n_tokens - kept.shape[-1]
    return pad(kept, (0, missing, 0, missing)) if read is None else pad(read(kept.transpose(1, 2)), (0, missing))


def _again(attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """What comes to the dropout of weights when a layer of timm is run once more, unfused, and no further than there.

    What other taps read is of the first run, to the bit.
    """
    drop, fused = getattr(attention, "attn_drop", None), getattr(attention, "fused_attn", None)
    if not isinstance(drop, nn.Module):
        return None

    def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _Weights(inputs[0])

    hook = drop.register_forward_pre_hook(stop)
    try:
        if fused is not None:
            attention.fused_attn = False
        attention.forward(*args, **kwargs)
    except _Weights as found:
        return found.weights
    finally:
        hook.remove()
        if fused is not None:
            attention.fused_attn = fused
    return None


class _Weights(Exception):
    """Ends a forward pass where its attention weights are known."""

    def __init__(self, weights: Tensor):
        super().__init__()
        self.weights = weights


def _joint(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """(3, N, H, T, d_h) queries, keys and values of self-attention on x."""
    x = x if attention.batch_first else x.transpose(0, 1)
    joint = linear(x, attention.in_proj_weight, attention.in_proj_bias)
    return joint.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)


def _of_joint(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    q, k, _ = _joint(attention, x)
    return torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, dim=-1)


def attended(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """(N, T, H, d_h) of self-attention on x."""
    q, k, v = _joint(attention, x)
    return scaled_dot_product_attention(q, k, v).transpose(1, 2)
