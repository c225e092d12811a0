"""Random dilated convolutions of series (ROCKET): strong without any weights that were learnt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from probe.backbones.shared.series import SERIES, by_length, check_normalize, normalised, padded, require_series
from probe.core.device import full_precision
from probe.core.errors import InputError

OUTPUTS_AT_ONCE = 2**24
"""Numbers that a group of kernels gives at once; more rows go through it in parts."""
Floats = NDArray[np.float64]


class _Drawn(NamedTuple):
    """What of the kernels does not hang on how many channels there are, (K,) each."""

    lengths: NDArray[np.int64]
    biases: Floats
    exponents: Floats
    pads: NDArray[np.bool_]
    shares: Floats


class RocketBackbone:
    """Gives `pooled` (N, 2 K): of each kernel's outputs the share that is above 0, then of each the largest.

    Kernels are drawn as Dempster, Petitjean and Webb (ROCKET: exceptionally fast and accurate time series
    classification using random convolutional kernels, 2020, arXiv 1910.13051) draw them: one of `lengths`, weights
    N(0, 1) less their mean in each channel, bias U(-1, 1), dilation floor(2^x) with x ~ U(0, log2((T - 1) / (l - 1))),
    padding to T outputs in half of them, floor(2^x) channels with x ~ U(0, log2(min(C, l) + 1)). They depart in that
    T is that of each series where series differ in length, so that a feature is a function of the row alone.

    Args:
        n_kernels: K.
        seed: Of the kernels.
        lengths: Odd, one is drawn for each kernel.
        length: T from which dilations are drawn; null for that of each series. One number where time has one scale in
            series that differ in length.
        normalize: `none`, or `instance`: each channel of each series to mean 0 and variance 1, as in the paper, which
            takes its level and scale away.
    """

    name = "rocket"
    reads = "series"
    kinds = ("pooled",)
    n_prefix_tokens = 0
    n_parameters = 0
    recipe = "1"

    def __init__(
        self,
        n_kernels: int = 1000,
        seed: int = 0,
        lengths: Sequence[int] = (7, 9, 11),
        length: int | None = None,
        normalize: str = "none",
    ):
        check_normalize(normalize, self.name)
        if n_kernels < 1 or not lengths or any(n < 3 or n % 2 == 0 for n in lengths):
            raise InputError(
                f"n_kernels is {n_kernels} and lengths {list(lengths)}, expected 1 kernel or more, and odd lengths "
                "from 3: change the parameters of backbone rocket"
            )
        if length is not None and length < max(lengths):
            raise InputError(
                f"length is {length}, expected at least {max(lengths)}, the longest of backbone.lengths: set a larger "
                "one, or shorter kernels"
            )
        self.n_kernels, self.seed, self.lengths, self.length = n_kernels, seed, tuple(lengths), length
        self.normalize = normalize
        self.device = "cpu"
        self._weights: dict[int, Tensor] = {}

    def identity(self) -> dict[str, Any]:
        """Facts that determine every feature."""
        return {
            "architecture": {
                "family": "rocket", "recipe": self.recipe, "n_kernels": self.n_kernels, "seed": self.seed,
                "lengths": list(self.lengths), "length": self.length,
            },
            "preprocessing": {"normalize": self.normalize},
        }  # fmt: skip

    def transform(self, row: Any) -> Tensor:
        """One series as (T, C) float32; one that is shorter than a kernel is refused."""
        series = require_series(row, self.name)
        self.check_lengths(len(series), len(series))
        return normalised(series, self.normalize)

    def check_lengths(self, least: int, most: int) -> None:
        """Refuses series that are shorter than a kernel."""
        if least < self._shortest:
            raise InputError(
                f"a series has {least} steps, the widest kernel of backbone rocket spans {self._shortest}: "
                + self._remedy(least)
            )

    def collate(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        """Series as one batch with a mask."""
        return padded(rows, self.name)

    def extract(self, batch: Mapping[str, Tensor], kinds: Sequence[str]) -> dict[str, Tensor]:
        """Features of a batch; series of one length go through the kernels together, without padding."""
        if unknown := sorted(set(kinds) - set(self.kinds)):
            raise InputError(f"backbone rocket gives ['pooled'], not {unknown}: use a head that reads pooled features")
        series = batch[SERIES].to(self.device)
        pooled = series.new_empty(len(series), 2 * self.n_kernels)
        with torch.no_grad(), full_precision():
            for n_steps, rows in by_length(batch).items():
                pooled[rows] = self._pooled(series[rows, :n_steps].transpose(1, 2))
        return dict.fromkeys(kinds, pooled)

    def to(self, device: str) -> RocketBackbone:
        """Where convolutions are computed."""
        self.device = device
        return self

    def _pooled(self, series: Tensor) -> Tensor:
        """(n, 2 K) of series (n, C, T)."""
        n_rows, n_channels, n_steps = series.shape
        weights, drawn = self._weights_of(n_channels).to(series.device), self._drawn
        biases = torch.from_numpy(drawn.biases.astype(np.float32)).to(series.device)
        pooled = series.new_empty(n_rows, 2, self.n_kernels)
        shapes = np.stack([drawn.lengths, self._dilations(self.length or n_steps), drawn.pads], axis=1)
        for shape in np.unique(shapes, axis=0):
            length, dilation, pads = (int(value) for value in shape)
            kernels = torch.from_numpy(np.flatnonzero((shapes == shape).all(axis=1))).to(series.device)
            padding = (length - 1) * dilation // 2 * pads
            at_once = max(1, OUTPUTS_AT_ONCE // (len(kernels) * n_steps))
            for at in range(0, n_rows, at_once):
                part = slice(at, at + at_once)
                outputs = functional.conv1d(
                    series[part], weights[kernels, :, :length], biases[kernels], padding=padding, dilation=dilation
                )
                pooled[part, 0, kernels] = (outputs > 0).float().mean(dim=2)
                pooled[part, 1, kernels] = outputs.amax(dim=2)
        return pooled.flatten(1)

    def _remedy(self, n_steps: int) -> str:
        if n_steps >= max(self.lengths):
            return f"set backbone.length={n_steps}, the steps of the shortest series"
        odd = ",".join(str(n) for n in (3, 5, 7, 9) if n <= n_steps)
        return f"set shorter backbone.lengths, such as [{odd}]" if odd else "leave such series out"

    @property
    def _shortest(self) -> int:
        """Steps that a series needs for every kernel to have an output."""
        if self.length is None:
            return max(self.lengths)
        spans = (self._drawn.lengths - 1) * self._dilations(self.length) + 1
        return int(max(*self.lengths, *spans[~self._drawn.pads]))

    def _dilations(self, n_steps: int) -> NDArray[np.int64]:
        most = np.log2((n_steps - 1) / (self._drawn.lengths - 1))
        return np.floor(2 ** (self._drawn.exponents * most)).astype(np.int64)

    @cached_property
    def _drawn(self) -> _Drawn:
        lengths, biases, exponents, pads, shares = self._uniform("kernels", 5, self.n_kernels)
        chosen = np.array(self.lengths)[(lengths * len(self.lengths)).astype(np.int64)]
        return _Drawn(chosen, 2 * biases - 1, exponents, pads < 0.5, shares)

    def _weights_of(self, n_channels: int) -> Tensor:
        """(K, C, longest) weights, 0 behind a kernel's length and in channels that it does not read."""
        if n_channels not in self._weights:
            drawn, longest = self._drawn, max(self.lengths)
            one, two = self._uniform(f"weights of {n_channels}", 2, self.n_kernels, n_channels, longest)
            weights = np.sqrt(-2 * np.log1p(-one)) * np.cos(2 * np.pi * two)  # Box and Muller: N(0, 1)
            inside = np.arange(longest) < drawn.lengths[:, None, None]
            weights -= (weights * inside).sum(axis=2, keepdims=True) / drawn.lengths[:, None, None]
            most = np.log2(np.minimum(n_channels, drawn.lengths) + 1)
            n_read = np.floor(2 ** (drawn.shares * most)).astype(np.int64)
            order = self._uniform(f"channels of {n_channels}", self.n_kernels, n_channels).argsort(axis=1)
            read = order.argsort(axis=1) < n_read[:, None]
            self._weights[n_channels] = torch.from_numpy((weights * inside * read[..., None]).astype(np.float32))
        return self._weights[n_channels]

    def _uniform(self, purpose: str, *shape: int) -> Floats:
        """U(0, 1) of raw integers, which are the same with every version of numpy."""
        key = hashlib.sha256(f"rocket|{self.seed}|{purpose}".encode()).digest()
        raw = np.random.Philox(key=int.from_bytes(key[:16], "little")).random_raw(int(np.prod(shape)))
        return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)
