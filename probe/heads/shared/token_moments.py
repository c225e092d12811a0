"""Cross second moments of tokens, by groups of channels: what moment probing adds to the pooled feature.

Shapes: B rows, T tokens, D features, W width of the projection, G groups, d = W / G channels of a group, P pairs.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

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


def moment_factors(X_BGTd: Tensor, second_moment: str, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """L_h and R_h, (B, P, T, d), whose products L_h^T R_h are the cross moments of neighbouring groups.

    With a mask (B, T), tokens where it is False are zero, and T counts the others.

    `centred` subtracts the mean over the tokens of every channel, which makes the products cross-covariances.
    `as_released` subtracts one number per row and group, the mean over tokens and channels, as the released code does.
    """
    axes = 2 if second_moment == "centred" else (2, 3)
    n_tokens: Tensor | int
    if mask is None:
        X_BGTd, n_tokens = X_BGTd - X_BGTd.mean(dim=axes, keepdim=True), X_BGTd.shape[2]
    else:
        there = mask[:, None, :, None].to(X_BGTd.dtype)
        n_tokens = there.sum(dim=2, keepdim=True)
        n = n_tokens if second_moment == "centred" else n_tokens * X_BGTd.shape[3]
        X_BGTd = (X_BGTd - (X_BGTd * there).sum(dim=axes, keepdim=True) / n) * there
    left, right = (X_BGTd[:, :-1], X_BGTd[:, 1:]) if X_BGTd.shape[1] > 1 else (X_BGTd, X_BGTd)
    return left / n_tokens, right


def cross_moments(X_BGTd: Tensor, second_moment: str, mask: Tensor | None = None) -> Tensor:
    """C_h = 1/T sum_t x_h(t) x_{h+1}(t)^T for neighbouring groups, (B, P, d, d), see `moment_factors`."""
    left, right = moment_factors(X_BGTd, second_moment, mask)
    return left.transpose(2, 3) @ right


def unit_columns(left: Tensor, right: Tensor, eps: float = 1e-12) -> Tensor:
    """`right` (B, P, T, d) scaled so that columns of left^T right have unit norm, without forming that product.

    |left^T r|^2 = r^T (left left^T) r, in double precision: its square root keeps half of the digits where tokens
    cancel. Columns of zeros are those of `normalize_columns`.
    """
    return cast(Tensor, _UnitColumns.apply(left, right, eps))


class _UnitColumns(Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, eps: float) -> Tensor:
        wide, columns = left.double(), right.double()
        seen = (wide @ wide.mT) @ columns
        squares = (columns * seen).sum(dim=2, keepdim=True)
        alive = squares > eps**2
        scale = torch.where(alive, torch.where(alive, squares, 1.0).rsqrt(), 0.0)
        ctx.save_for_backward(wide, columns, seen, scale)
        return right * scale.to(right.dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        """The scale is (r^T K r)^(-1/2), K = left left^T: its slope along K r is minus its cube."""
        wide, columns, seen, scale = ctx.saved_tensors
        slope = slopes[0].double()  # once: products of mixed precision are slow
        cubed = -scale.pow(3) * (columns * slope).sum(dim=2, keepdim=True)
        of_left = ((columns * cubed) @ columns.mT) @ wide
        of_right = slope.mul_(scale).addcmul_(seen, cubed)
        return of_left.to(slopes[0].dtype), of_right.to(slopes[0].dtype), None


def windows(factor: Tensor) -> Tensor:
    """The three entries of every window of stride 2 along the last axis, (B, P, 3, T, n) from (B, P, T, d)."""
    return cast(Tensor, _Windows.apply(factor))


class _Windows(Function):
    """Copies of every second entry, forwards and backwards: the gradient of `unfold` takes as long as a product."""

    @staticmethod
    def forward(ctx: Any, factor: Tensor) -> Tensor:
        ctx.width = factor.shape[3]
        last = 2 * ((ctx.width - 3) // 2) + 1
        return torch.stack([factor[..., a : a + last : 2] for a in range(3)], dim=2)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        first, middle, end = slopes[0].unbind(2)
        factor, last = first.new_zeros(*first.shape[:3], ctx.width), 2 * first.shape[3] - 1
        factor[..., :last:2] = first
        factor[..., 1 : 1 + last : 2] = middle
        factor[..., 2 : 2 + last : 2] += end  # where the next window begins
        return factor


def convolve_product(left: Tensor, right: Tensor, kernel: Tensor) -> Tensor:
    """A convolution of stride 2 of left^T right, (B, P, d, d), from its factors (B, P, T, d): (B, O, n, n).

    Every window is a product of windows: out[o, i, j] = sum_{p, a, t} left[p, t, 2i + a] sum_b w[o, p, a, b]
    right[p, t, 2j + b], a product of matrices over 3 P T, where the maps themselves would be read several times.

    Args:
        left: (B, P, T, d).
        right: (B, P, T, d).
        kernel: w, (O, P, 3, 3).
    """
    B, P, T, _ = left.shape
    rows = windows(left).view(B, P * 3 * T, -1)
    n = rows.shape[2]
    columns = torch.einsum("opab,npbtj->npatjo", kernel, windows(right)).reshape(B, P * 3 * T, -1)
    return (rows.transpose(1, 2) @ columns).view(B, n, n, -1).permute(0, 3, 1, 2)


def normalize_columns(C: Tensor, eps: float = 1e-12) -> Tensor:
    """Columns of the last two axes at unit Euclidean norm; a column of zeros stays one and passes no gradient.

    Dividing it by `eps` instead, as the released code does, would multiply its gradient by 1e12.
    """
    squares = C.square().sum(dim=-2, keepdim=True)
    alive = squares > eps**2
    return C * torch.where(alive, torch.where(alive, squares, 1.0).rsqrt(), 0.0)
