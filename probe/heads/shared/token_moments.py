"""Cross second moments of tokens, by groups of channels: what moment probing adds to the pooled feature.

Shapes: B rows, T tokens, D features, W width of the projection, G groups, d = W / G channels of a group, P pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from probe.core.errors import InputError

LAYOUTS = ("vit", "cnn")
SECOND_MOMENTS = ("as_released", "centred")


def check_moment_options(layout: str, second_moment: str, width: int, n_groups: int) -> None:
    """Raises InputError for names that are not known and for groups that do not divide the width."""
    for name, value, known in (("layout", layout, LAYOUTS), ("second_moment", second_moment, SECOND_MOMENTS)):
        if value not in known:
            raise InputError(f"{name} is {value!r}: choose one of {list(known)}")
    if n_groups < 1 or width < 1 or width % n_groups:
        raise InputError(f"{n_groups} groups do not divide a width of {width}: choose n_groups as a divisor of it")


def check_patches(n_tokens: int, n_prefix_tokens: int) -> None:
    """Raises InputError where no token is left behind the prefix."""
    if not 0 <= n_prefix_tokens < n_tokens:
        raise InputError(
            f"n_prefix_tokens is {n_prefix_tokens} and there are {n_tokens} tokens, of which at least one must be "
            "left: set it to the number of prefix tokens of the backbone"
        )


def n_pairs(n_groups: int) -> int:
    """Every group is paired with the next one; a single group with itself."""
    return max(1, n_groups - 1)


def split_groups(P_BTW: Tensor, n_groups: int, layout: str) -> Tensor:
    """Channels as groups, (B, G, T, d): contiguous ones for `vit`, interleaved ones (c mod G) for `cnn`."""
    B, T, W = P_BTW.shape
    if layout == "vit":
        return P_BTW.reshape(B, T, n_groups, W // n_groups).permute(0, 2, 1, 3)
    return P_BTW.reshape(B, T, W // n_groups, n_groups).permute(0, 3, 1, 2)


def centre_groups(X_BGTd: Tensor, second_moment: str, mask: Tensor | None = None) -> Tensor:
    """Subtracts the mean over the tokens, which with a mask (B, T) are those where it is True; others become zero.

    `centred` subtracts that of every channel, which makes cross moments cross-covariances. `as_released` subtracts one
    number per row and group, the mean over tokens and channels, as the released code does.
    """
    axes = 2 if second_moment == "centred" else (2, 3)
    if mask is None:
        return X_BGTd - X_BGTd.mean(dim=axes, keepdim=True)
    there = mask[:, None, :, None].to(X_BGTd.dtype)
    n = there.sum(dim=2, keepdim=True) * (1 if second_moment == "centred" else X_BGTd.shape[3])
    return (X_BGTd - (X_BGTd * there).sum(dim=axes, keepdim=True) / n) * there


def cross_moments(X_BGTd: Tensor, second_moment: str, mask: Tensor | None = None) -> Tensor:
    """C_h = 1/T sum_t x_h(t) x_{h+1}(t)^T for neighbouring groups, (B, P, d, d); T counts tokens under the mask."""
    X_BGTd = centre_groups(X_BGTd, second_moment, mask)
    n_tokens = X_BGTd.shape[2] if mask is None else mask.sum(dim=1).view(-1, 1, 1, 1)
    left, right = (X_BGTd[:, :-1], X_BGTd[:, 1:]) if X_BGTd.shape[1] > 1 else (X_BGTd, X_BGTd)
    return (left / n_tokens).transpose(2, 3) @ right


def normalize_columns(C: Tensor, eps: float = 1e-12) -> Tensor:
    """Columns of the last two axes at unit Euclidean norm; a column of zeros stays one and passes no gradient.

    Dividing it by `eps` instead, as the released code does, would multiply its gradient by 1e12.
    """
    squares = C.square().sum(dim=-2, keepdim=True)
    alive = squares > eps**2
    return C * torch.where(alive, torch.where(alive, squares, 1.0).rsqrt(), 0.0)
