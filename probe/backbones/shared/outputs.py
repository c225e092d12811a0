"""What a network gave, as the kinds of features that heads read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

CLASS_TOKENS = ("cls_token", "class_token", "class_embedding", "distillation_token", "dist_token", "register_tokens",
                "reg_token")  # fmt: skip
"""What vision transformers (torchvision, timm, open_clip, transformers, DINO) call the tokens before their patches."""


def map_kinds(feature_map: Tensor) -> dict[str, Tensor]:
    """`map` and `tokens` of a (N, C, H, W) map: its positions, row by row, are the tokens."""
    return {"tokens": feature_map.flatten(2).transpose(1, 2), "map": feature_map}


def token_kinds(tokens: Tensor, n_prefix_tokens: int, grid: tuple[int, int] | None) -> dict[str, Tensor]:
    """`tokens`, and `map` where the patch tokens fill a grid of (height, width)."""
    patches = tokens[:, n_prefix_tokens:]
    if grid is None or patches.shape[1] != grid[0] * grid[1]:
        return {"tokens": tokens}
    return {"tokens": tokens, "map": patches.transpose(1, 2).unflatten(2, grid)}


def output_kinds(
    output: Any, *, n_prefix_tokens: int, channels_last: bool, image_size: tuple[int, int], grid: Any = None
) -> dict[str, Tensor]:
    """`tokens` and `map` of a network's last output: of a map, or of tokens; nothing of anything else.

    Args:
        output: (N, C, H, W), (N, H, W, C) where `channels_last`, or (N, T, C).
        n_prefix_tokens: How many tokens stand before the patches.
        channels_last: Order of a map's axes.
        image_size: Of the input; square images whose patches number a square have a square grid.
        grid: (height, width) in patches, where the network knows it.
    """
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        return {}
    if output.ndim == 4:
        return map_kinds(output.permute(0, 3, 1, 2) if channels_last else output)
    return token_kinds(output, n_prefix_tokens, patch_grid(output.shape[1] - n_prefix_tokens, image_size, grid))


def patch_grid(n_patches: int, image_size: tuple[int, int], grid: Any = None) -> tuple[int, int] | None:
    """(height, width) of the grid that patches fill: the network's own, or a square one of a square image."""
    if grid is not None and math.prod(grid) == n_patches:
        return int(grid[0]), int(grid[1])
    # Later stages and dynamic sizes have another grid than the patch embedding.
    side = math.isqrt(max(n_patches, 0))
    return (side, side) if side and side * side == n_patches and image_size[0] == image_size[1] else None


def is_channels_last(shape: Sequence[int], image_size: tuple[int, int]) -> bool | None:
    """Whether an output of four dimensions is (N, H, W, C): a map has the proportions of the image.

    None where both orders have them, or neither.
    """
    height, width = image_size

    def off(h: int, w: int) -> float:
        """How far from the proportions of the image, where rounding in each stage can explain it."""
        found = abs(h * width - w * height)
        slack = 0 if height == width else height + width
        return found if h <= height and w <= width and found <= slack else math.inf

    if set(shape[1:]) == {1}:
        return False
    first, last = off(shape[2], shape[3]), off(shape[1], shape[2])
    if 0 in (first, last) or math.inf in (first, last):
        return None if first == last else last < first
    return None


def n_class_tokens(network: nn.Module) -> int:
    """How many tokens a vision transformer puts before its patches, by its word for it or the names of its weights."""
    for module in network.modules():
        if isinstance(told := getattr(module, "num_prefix_tokens", None), int):
            return told
    tokens = (weight for name, weight in network.named_parameters() if name.rpartition(".")[2] in CLASS_TOKENS)
    return sum(weight.shape[-2] if weight.ndim > 1 else 1 for weight in tokens)
