"""From groups of tokens to convolved moment maps, of which the maps themselves are never formed.

Forwards and backwards are written out: these are many small operations, of which autograd would record and copy more.
Channels and positions lie in phases, so that what a convolution of stride 2 reads is contiguous: channel 4 k + r of a
group at r, k, zeros beyond the last one; even positions of the first convolution before odd ones. Positions are counted
to the next even number; what stands at the one too many is read by nothing.

Shapes: B rows, G groups, P pairs, T tokens, d channels of a group, q = d / 4 rounded up, O and Q outputs of the
convolutions, n positions of the first one, h = n / 2.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from probe.heads.shared.token_moments import centre_groups


def centred_phases(X_BTGd: Tensor, second_moment: str, mask: Tensor | None = None) -> Tensor:
    """What `centre_groups` makes of groups, channels in phases: (G, B, T, 4, q)."""
    return cast(Tensor, _CentredPhases.apply(X_BTGd, second_moment, mask))


class _CentredPhases(Function):
    @staticmethod
    def forward(ctx: Any, X_BTGd: Tensor, second_moment: str, mask: Tensor | None) -> Tensor:
        ctx.second_moment, ctx.mask, ctx.d = second_moment, mask, X_BTGd.shape[3]
        centred = centre_groups(X_BTGd.transpose(1, 2), second_moment, mask).transpose(0, 1)
        filled = functional.pad(centred, (0, -ctx.d % 4)) if ctx.d % 4 else centred
        return filled.unflatten(3, (-1, 4)).mT.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        of_centred = slopes[0].permute(1, 2, 0, 4, 3).flatten(3)[..., : ctx.d]
        # Centring is a symmetric map.
        return centre_groups(of_centred.transpose(1, 2), ctx.second_moment, ctx.mask).transpose(1, 2), None, None


def convolved_moments(
    X_GBT4q: Tensor, d: int, first: Tensor, second: Tensor, dtype: torch.dtype | None = None, eps: float = 1e-12
) -> Tensor:
    """Two convolutions of stride 2, a GELU between, of left^T right at unit column norm: (B, Q, h - 1, h - 1).

    Every window of a product is a product of windows: out[o, i, j] = sum_{p, a, t} left[p, t, 2i + a] sum_b
    w[o, p, a, b] right[p, t, 2j + b], a product of matrices over 3 P T, where maps would be read several times.

    Args:
        X_GBT4q: Each group is `left` of the next one, a single group of itself; channels in phases.
        d: Channels.
        first: Kernel w, (O, P, 3, 3).
        second: Kernel, (Q, O, 3, 3).
        dtype: What the large products multiply; that of the groups if None.
        eps: Columns of at most this norm are zero.
    """
    half = (d + 1) // 4
    return cast(Tensor, _ConvolvedMoments.apply(X_GBT4q, half, first, second, dtype or X_GBT4q.dtype, eps))


class _ConvolvedMoments(Function):
    @staticmethod
    def forward(
        ctx: Any, X_GBT4q: Tensor, half: int, first: Tensor, second: Tensor, dtype: torch.dtype, eps: float
    ) -> Tensor:
        G, B, T, *_ = X_GBT4q.shape
        P = max(1, G - 1)
        left = X_GBT4q[:P]
        right, seen, scale = unit_columns(X_GBT4q, eps)
        mixing = first.permute(1, 2, 0, 3).reshape(1, P, 1, -1, 3).expand(B, P, T, -1, 3).reshape(B * P * T, -1, 3)
        entries = windows(right, half).view(B * P * T, 3, -1)
        columns = small_products(mixing, entries).view(B, P * T * 3, -1).to(dtype)
        rows = windows(left, half).view(B, P * T * 3, -1).to(dtype)
        maps = torch.bmm(rows.mT, columns).to(left.dtype)
        channels, taps = phases_first(functional.gelu(maps), len(first)).reshape(4 * len(first), -1), taps_of(second)
        ctx.save_for_backward(X_GBT4q, right, seen, scale, mixing, entries, columns, rows, maps, channels, taps)
        return shifted_sum((taps @ channels).view(4, len(second), B, half, half))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        X_GBT4q, right, seen, scale, mixing, entries, columns, rows, maps, channels, taps = ctx.saved_tensors
        P, B, T, *_ = right.shape
        of_mixed = slopes_of_shifted_sum(slopes[0])
        of_second = slopes_of_taps(of_mixed @ channels.mT)
        of_maps = torch.empty_like(maps)
        inputs, of_inputs = (phases_first(X, len(channels) // 4) for X in (maps, of_maps))
        of_channels = (taps.mT @ of_mixed).view(inputs.shape)
        torch.ops.aten.gelu_backward.grad_input(of_channels, inputs, grad_input=of_inputs)
        of_maps = of_maps.to(rows.dtype)
        of_columns = torch.bmm(rows, of_maps).to(maps.dtype).view(B * P * T, -1, entries.shape[2])
        of_first = small_products(of_columns, entries.mT).view(B, P, T, 3, -1, 3).sum(dim=(0, 2)).permute(2, 0, 1, 3)
        of_X = torch.zeros_like(X_GBT4q)
        fill_in_slopes_of_windows(of_X[:P], torch.bmm(columns, of_maps.mT).to(maps.dtype).view(B, P, T, 3, 2, -1))
        of_right = torch.zeros_like(right)
        fill_in_slopes_of_windows(of_right, small_products(mixing.mT, of_columns).view(B, P, T, 3, 2, -1))
        add_slopes_of_unit_columns(of_X, of_right, X_GBT4q, right, seen, scale)
        return of_X, None, of_first, of_second, None, None


def unit_columns(X_GBT4q: Tensor, eps: float = 1e-12) -> tuple[Tensor, Tensor, Tensor]:
    """The right groups r, scaled so that columns of left^T r have unit norm; K r, K = left left^T; the scale.

    |left^T r|^2 = r^T K r, in double precision: its square root keeps half of the digits where tokens cancel.

    Args:
        X_GBT4q: Groups; all but the first are right ones, a single one is both.
        eps: Columns of at most this norm are scaled by zero.

    Returns:
        (P, B, T, 4, q), (P * B, T, 4 q) and (P * B, 4 q).
    """
    G, B, T, *_ = X_GBT4q.shape
    P = max(1, G - 1)
    wide = X_GBT4q.double().view(G, B, T, -1)
    left, columns = wide[:P].flatten(0, 1), wide[G - P :].flatten(0, 1)
    seen = small_products(small_products(left, left.mT), columns)
    squares = (columns * seen).sum(dim=1)
    scale = squares.clamp_min(eps**2).rsqrt_().mul_(squares > eps**2).to(X_GBT4q.dtype)
    right = X_GBT4q[G - P :] * scale.view(P, B, 1, 4, -1)
    return right, seen.to(X_GBT4q.dtype), scale


def add_slopes_of_unit_columns(
    of_X: Tensor, of_right: Tensor, X_GBT4q: Tensor, right: Tensor, seen: Tensor, scale: Tensor
) -> None:
    """Adds to slopes of the groups what those of the scaled right ones pass on, which are changed.

    The scale is (r^T K r)^(-1/2): its slope along K r is minus its cube. In single precision that is as far from the
    exact slope as the exact slope of factors that are rounded once more.
    """
    P, B, T, *_ = right.shape
    of_columns, columns, left = (X.view(P * B, T, -1) for X in (of_right, right, X_GBT4q[:P]))
    turned = (columns * of_columns).sum(dim=1, keepdim=True).neg_()
    of_left = of_X[:P].view(P * B, T, -1)
    of_left.add_(small_products(small_products(columns * turned, columns.mT), left))
    scale = scale[:, None]
    of_columns.addcmul_(seen, turned.mul_(scale)).mul_(scale)
    of_X[-P:] += of_right


def small_products(left: Tensor, right: Tensor) -> Tensor:
    """(N, I, K) @ (N, K, J) of many small matrices, which on the CPU NumPy multiplies with less ado about each."""
    if left.device.type != "cpu":
        return torch.bmm(left, right)
    products = left.new_empty(*left.shape[:-1], right.shape[-1])
    np.matmul(left.detach().numpy(), right.detach().numpy(), out=products.numpy())
    return products


def windows(factor: Tensor, half: int) -> Tensor:
    """The three entries of every window of stride 2 along the channels, (B, P, T, 3, 2, h), zero beyond d."""
    P, B, T, _, q = factor.shape
    entries = factor.new_empty(B, P, T, 3, 2, half)
    of_pairs = entries.transpose(0, 1)
    of_pairs[..., 0, :, :] = factor[..., ::2, :half]
    of_pairs[..., 1, :, :] = factor[..., 1::2, :half]
    of_pairs[..., 2, 0, :] = factor[..., 2, :half]
    there = min(half, q - 1)
    of_pairs[..., 2, 1, :there] = factor[..., 0, 1 : there + 1]  # where the next window begins
    of_pairs[..., 2, 1, there:] = 0
    return entries


def fill_in_slopes_of_windows(of_factor: Tensor, slopes: Tensor) -> None:
    """Makes slopes of a factor, (P, B, T, 4, q) zeros, those of its windows."""
    of_pairs, half, q = slopes.transpose(0, 1), slopes.shape[5], of_factor.shape[4]
    of_factor[..., ::2, :half] = of_pairs[..., 0, :, :]
    of_factor[..., 1::2, :half] = of_pairs[..., 1, :, :]
    of_factor[..., 2, :half] += of_pairs[..., 2, 0, :]
    there = min(half, q - 1)
    of_factor[..., 0, 1 : there + 1] += of_pairs[..., 2, 1, :there]


def phases_first(maps: Tensor, n_outputs: int) -> Tensor:
    """A view of maps (B, n, O n) as four channels each, (2, O, 2, B, h, h): a kernel of 3 x 3 is one of 2 x 2 there."""
    B, n, _ = maps.shape
    return maps.view(B, 2, n // 2, n_outputs, 2, n // 2).permute(1, 3, 4, 0, 2, 5)


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
