"""What the attentive poolings are made of.

Shapes: B rows, T tokens, D features, H heads, Q queries, d = D / H features of a head. A mask (B, T) is True where
there is a token; poolings get tokens that are zero elsewhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from probe.core.errors import InputError

CONSTANT = 1e-10
"""Variance of what never varies, at most, as a share of the squared mean: rounding."""
Mask = Tensor | None
Pooled = tuple[Tensor, Tensor]
"""The vector of each row, (B, W), and its attention maps, (B, Q, T): one for each query, or each head."""


class Pooling(nn.Module):
    """Tokens (B, T, D) and their mask to one vector per row, of `width`, and the attention that made it."""

    width: int

    def forward(self, tokens: Tensor, mask: Mask) -> Pooled:
        raise NotImplementedError


def divisor_near(wanted: int, width: int, told: int | None, name: str) -> int:
    """How many parts to cut a width into: as many as told, else the largest common divisor with what is usual.

    Raises:
        InputError: Told a number that does not divide the width.
    """
    if told is None:
        return math.gcd(wanted, width)
    if told < 1 or width % told:
        raise InputError(f"{name} is {told} and does not divide a width of {width}: set a divisor of it in options")
    return told


def split_heads(X_BTD: Tensor, n_heads: int) -> Tensor:
    """(B, H, T, d): contiguous slices of the features."""
    return X_BTD.unflatten(-1, (n_heads, -1)).transpose(-3, -2)


def merge_heads(X_BHTd: Tensor) -> Tensor:
    """(B, T, H d), the reverse."""
    return X_BHTd.transpose(-3, -2).flatten(-2)


def attention(queries: Tensor, keys: Tensor, mask: Mask) -> Tensor:
    """softmax over tokens of q.k / sqrt(d), (B, H, Q, T); exactly 0 where there is no token."""
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(keys.shape[-1])
    return masked_softmax(scores, None if mask is None else mask[:, None, None])


def masked_softmax(scores: Tensor, mask: Mask) -> Tensor:
    """Over the last axis, among the places where the mask is True."""
    return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1)


def mean_token(tokens: Tensor, mask: Mask) -> Tensor:
    """Over the tokens that are there, (B, 1, D)."""
    if mask is None:
        return tokens.mean(1, keepdim=True)
    there = mask[..., None].to(tokens.dtype)
    return (tokens * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)


def maps(A_BHQT: Tensor) -> Tensor:
    """Attention of several heads and queries as maps (B, H Q, T)."""
    return A_BHQT.flatten(1, 2)


def small(*shape: int) -> nn.Parameter:
    """Queries as they are drawn before training, N(0, 0.02^2)."""
    return nn.Parameter(0.02 * torch.randn(*shape))


class MLP(nn.Module):
    """Linear, exact GELU, linear, `ratio` times as wide inside."""

    def __init__(self, width: int, ratio: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class RunningNorm(nn.Module):
    """BatchNorm without scale and shift, over the last axis; of masked tokens, over those that are there.

    Training divides by the batch's biased deviation and keeps running means of mean and unbiased variance, which
    predict. The first ten batches count alike, then each counts a tenth: the usual momentum, without the memory of the
    mean 0 and variance 1 before the first batch, which a short training would predict with.
    """

    running_mean: Tensor
    running_var: Tensor
    n_batches: Tensor

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("n_batches", torch.zeros(1))

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:
        if not self.training:
            return self._normed(x, self.running_mean, self.running_var)
        axes = tuple(range(x.ndim - 1))
        there = torch.ones_like(x[..., :1]) if mask is None else mask[..., None].to(x.dtype)
        n = there.sum()
        mean = (x * there).sum(axes) / n
        variance = ((x - mean).square() * there).sum(axes) / n
        with torch.no_grad():
            self.n_batches += 1
            share = (1 / self.n_batches).clamp(min=0.1)
            self.running_mean += share * (mean - self.running_mean)
            self.running_var += share * (variance * n / (n - 1).clamp(min=1) - self.running_var)
        return self._normed(x, mean, variance)

    def _normed(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """0 of what never varies: its mean moves with the weights, and eps would make much of how far the mean lags."""
        constant = variance <= CONSTANT * mean.square()
        return ((x - mean) * (variance + self.eps).rsqrt()).masked_fill(constant, 0)
