"""What a network gave, as the kinds of features that heads read."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

KINDS = ("pooled", "tokens", "map")


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
    n_patches = output.shape[1] - n_prefix_tokens
    if grid is None or math.prod(grid) != n_patches:
        # Later stages and dynamic sizes have another grid than the patch embedding.
        side = math.isqrt(max(n_patches, 0))
        square = side > 0 and side * side == n_patches and image_size[0] == image_size[1]
        grid = (side, side) if square else None
    return token_kinds(output, n_prefix_tokens, None if grid is None else tuple(grid))
