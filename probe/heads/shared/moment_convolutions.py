"""From groups of tokens to convolved moment maps, of which the maps themselves are never formed.

Forwards and backwards are written out: these are many small operations, of which autograd would record and copy more.
Positions lie in phases, even ones before odd ones, so that what a convolution of stride 2 reads is contiguous. Those of
the first one are counted to the next even number; what stands at the one too many is read by nothing.

Shapes: B rows, G groups, P pairs, T tokens, d channels of a group, O and Q outputs of the convolutions, n positions of
the first one, h = n / 2.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional


def convolved_moments(
    X_BGTd: Tensor, first: Tensor, second: Tensor, dtype: torch.dtype | None = None, eps: float = 1e-12
) -> Tensor:
    """Two convolutions of stride 2, a GELU between, of left^T right at unit column norm: (B, Q, h - 1, h - 1).

    Every window of a product is a product of windows: out[o, i, j] = sum_{p, a, t} left[p, t, 2i + a] sum_b
    w[o, p, a, b] right[p, t, 2j + b], a product of matrices over 3 P T, where maps would be read several times.

    Args:
        X_BGTd: Each group is `left` of the next one, a single group of itself.
        first: Kernel w, (O, P, 3, 3).
        second: Kernel, (Q, O, 3, 3).
        dtype: What the large products multiply; that of `X_BGTd` if None.
        eps: Columns of at most this norm are zero.
    """
    return cast(Tensor, _ConvolvedMoments.apply(X_BGTd, first, second, dtype or X_BGTd.dtype, eps))


class _ConvolvedMoments(Function):
    @staticmethod
    def forward(ctx: Any, X_BGTd: Tensor, first: Tensor, second: Tensor, dtype: torch.dtype, eps: float) -> Tensor:
        B, G, T, _ = X_BGTd.shape
        P = max(1, G - 1)
        left = X_BGTd[:, :P].contiguous()
        right, seen, scale = unit_columns(left, X_BGTd[:, G - P :], eps)
        mixing = first.permute(1, 2, 0, 3).reshape(1, P, 1, -1, 3).expand(B, P, T, -1, 3).reshape(B * P * T, -1, 3)
        entries = windows(right).view(B * P * T, 3, -1)
        columns = (mixing @ entries).view(B, P * T * 3, -1).to(dtype)
        rows = windows(left).view(B, P * T * 3, -1).to(dtype)
        maps = (rows.mT @ columns).to(left.dtype)
        channels, taps = by_phases(functional.gelu(maps), len(first)), taps_of(second)
        ctx.n_groups = G
        ctx.save_for_backward(left, right, seen, scale, mixing, entries, columns, rows, maps, channels, taps)
        return shifted_sum((taps @ channels).view(4, len(second), B, *2 * (rows.shape[2] // 2,)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        left, right, seen, scale, mixing, entries, columns, rows, maps, channels, taps = ctx.saved_tensors
        (B, P, T, d), G = left.shape, ctx.n_groups
        of_mixed = slopes_of_shifted_sum(slopes[0])
        of_second = slopes_of_taps(of_mixed @ channels.mT)
        of_maps = torch.ops.aten.gelu_backward(from_phases(taps.mT @ of_mixed, maps.shape), maps).to(rows.dtype)
        of_columns = (rows @ of_maps).to(left.dtype).view(B * P * T, -1, entries.shape[2])
        of_first = (of_columns @ entries.mT).view(B, P, T, 3, -1, 3).sum(dim=(0, 2)).permute(2, 0, 1, 3)
        of_left = slopes_of_windows((columns @ of_maps.mT).to(left.dtype).view(B, P, T, 3, -1), d)
        of_right = slopes_of_windows((mixing.mT @ of_columns).view(B, P, T, 3, -1), d)
        add_slopes_of_unit_columns(of_left, of_right, left, right, seen, scale)
        of_X = left.new_zeros(B, G, T, d)
        of_X[:, :P] = of_left
        of_X[:, G - P :] += of_right
        return of_X, of_first, of_second, None, None


def unit_columns(left: Tensor, right: Tensor, eps: float = 1e-12) -> tuple[Tensor, Tensor, Tensor]:
    """`right` scaled so that columns of left^T right have unit norm; K = left left^T times that; the scale.

    |left^T r|^2 = r^T K r, in double precision: its square root keeps half of the digits where tokens cancel.

    Args:
        left: (B, P, T, d).
        right: (B, P, T, d).
        eps: Columns of at most this norm are scaled by zero.
    """
    wide, columns = left.double(), right.double()
    seen = (wide @ wide.mT) @ columns
    squares = (columns * seen).sum(dim=2, keepdim=True)
    scale = squares.clamp_min(eps**2).rsqrt_().mul_(squares > eps**2)
    return right * scale.to(left.dtype), seen.mul_(scale).to(left.dtype), scale.to(left.dtype)


def add_slopes_of_unit_columns(
    of_left: Tensor, of_right: Tensor, left: Tensor, right: Tensor, seen: Tensor, scale: Tensor
) -> None:
    """Adds what `unit_columns` passes on to slopes of `left`, and makes those of what it gives those of `right`.

    The scale is (r^T K r)^(-1/2): its slope along K r is minus its cube. In single precision that is as far from the
    exact slope as the exact slope of factors that are rounded once more.
    """
    turned = (right * of_right).sum(dim=2, keepdim=True).neg_()
    of_left.add_(((right * turned) @ right.mT) @ left)
    of_right.addcmul_(seen, turned).mul_(scale)


def windows(factor: Tensor) -> Tensor:
    """The three entries of every window of stride 2 along the last axis, (B, P, T, 3, n), zero beyond d."""
    half = (factor.shape[3] + 1) // 4
    entries = factor.new_empty(*factor.shape[:3], 3, 2, half)
    for i, phase in itertools.product(range(3), range(2)):
        there = factor[..., i + 2 * phase :: 4][..., :half]
        entries[..., i, phase, : there.shape[3]] = there
        if there.shape[3] < half:
            entries[..., i, phase, there.shape[3] :] = 0
    return entries.flatten(4)


def slopes_of_windows(slopes: Tensor, d: int) -> Tensor:
    """(B, P, T, d)."""
    first, middle, end = slopes.unflatten(4, (2, -1)).unbind(3)
    half, quarter = first.shape[4], -(-d // 4)
    phases = first.new_empty(*first.shape[:3], 4, quarter)
    phases[..., half:] = 0
    phases[..., ::2, :half] = first
    phases[..., 1::2, :half] = middle
    phases[..., 2, :half] += end[..., 0, :]  # where the next window begins
    phases[..., 0, 1:] += end[..., 1, : quarter - 1]
    return phases.transpose(3, 4).flatten(3)[..., :d]


def by_phases(maps: Tensor, n_outputs: int) -> Tensor:
    """Four channels for each of the maps', (4 O, B h h) from (B, n, O n): a kernel of 3 x 3 is one of 2 x 2 there."""
    B, n, _ = maps.shape
    return maps.view(B, 2, n // 2, n_outputs, 2, n // 2).permute(1, 3, 4, 0, 2, 5).reshape(4 * n_outputs, -1)


def from_phases(channels: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `by_phases`; `shape` is that of the maps."""
    B, n, _ = shape
    return channels.view(2, -1, 2, B, n // 2, n // 2).permute(3, 0, 4, 1, 2, 5).reshape(shape)


def taps_of(kernel: Tensor) -> Tensor:
    """(4 Q, 4 O), shifts of both axes and outputs from phases of both axes and channels."""
    taps = functional.pad(kernel, (0, 1, 0, 1)).view(*kernel.shape[:2], 2, 2, 2, 2)
    return taps.permute(2, 4, 0, 3, 1, 5).reshape(4 * len(kernel), -1)


def slopes_of_taps(slopes: Tensor) -> Tensor:
    """(Q, O, 3, 3)."""
    shape = [side // 4 for side in slopes.shape]
    return slopes.view(2, 2, shape[0], 2, shape[1], 2).permute(2, 4, 0, 3, 1, 5).reshape(*shape, 4, 4)[..., :3, :3]


def shifted_sum(mixed: Tensor) -> Tensor:
    """Four maps (4, Q, B, h, h), the later ones from one on along j, along i, along both: (B, Q, h - 1, h - 1)."""
    here, right, down, both = mixed.transpose(1, 2)
    return (here[..., :-1, :-1] + right[..., :-1, 1:]).add_(down[..., 1:, :-1]).add_(both[..., 1:, 1:])


def slopes_of_shifted_sum(slopes: Tensor) -> Tensor:
    """(4 Q, B h h)."""
    B, Q, m, _ = slopes.shape
    mixed = slopes.new_zeros(2, 2, Q, B, m + 1, m + 1)
    for i, j in itertools.product(range(2), range(2)):
        mixed[i, j, ..., i : m + i, j : m + j] = slopes.transpose(0, 1)
    return mixed.view(4 * Q, -1)
