"""Transformers of series, iTransformer and PatchTST, with weights from a file or at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from probe.backbones.shared.checkpoints import load_checkpoint
from probe.backbones.shared.network import FrozenNetwork
from probe.backbones.shared.series import MASK, SERIES, check_normalize, normalised, padded, require_series
from probe.core.errors import InputError

UNTRAINED = {"checkpoint": None}
MODELS = ("itransformer", "patchtst")
POOLINGS = ("mean", "variates")


class _Encoder(nn.Module):
    """Variates, or patches of each variate by itself, as tokens; post-norm layers and a norm at the end."""

    def __init__(self, model: str, length: int, dim: int, depth: int, heads: int, patch: int, stride: int):
        super().__init__()
        self.patch, self.stride = (length, length) if model == "itransformer" else (patch, stride)
        self.of_variates = model == "itransformer"
        hidden = dim if self.of_variates else 2 * dim
        self.embed = nn.Linear(self.patch, dim)
        n_patches = (length - self.patch) // self.stride + 1
        self.positions = None if self.of_variates else nn.Parameter(0.04 * torch.rand(n_patches, dim) - 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, hidden, activation="gelu", batch_first=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, series: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, P, D) tokens, of P patches of each variate, and which of the patches begin inside of a series, (N, P).

        Args:
            series: (N, T, C).
            mask: (N, T).
        """
        patches = series.transpose(1, 2).unfold(2, self.patch, self.stride)
        tokens, real = self.embed(patches), mask[:, : mask.shape[1] - self.patch + 1 : self.stride]
        n_rows, n_variates = tokens.shape[:2]
        if self.of_variates:
            states = tokens.flatten(1, 2)
            for layer in self.layers:
                states = layer(states)
        else:
            states = (tokens + self.positions).flatten(0, 1)
            nothing = ~real.repeat_interleave(n_variates, dim=0)
            for layer in self.layers:
                states = layer(states, src_key_padding_mask=nothing)
        return self.norm(states).reshape(n_rows, n_variates, real.shape[1], -1), real


class SeriesTransformer(FrozenNetwork):
    """Gives `pooled` and, of `itransformer`, `tokens` (N, C, D), one for each variate.

    `itransformer` (Liu et al., iTransformer: inverted transformers are effective for time series forecasting, 2024,
    arXiv 2310.06625): every variate as a whole is a token, attention is between variates, there are no positions.
    `patchtst` (Nie et al., A time series is worth 64 words, 2023, arXiv 2211.14730): patches of each variate by itself,
    floor((T - patch) / stride) + 1 of them, with learnt positions; layer norms stand in place of its batch norms.

    Steps behind the end of a series count as 0 after it was normalised; patches that lie there are neither attended to
    nor pooled. Series longer than `length` are refused.

    Args:
        model: `itransformer` or `patchtst`.
        length: T, the most steps of a series; the weights depend on it.
        channels: C, of every series.
        dim, depth, heads: D, layers, and attention heads in each.
        patch, stride: Steps of a patch, and from one to the next.
        pooling: `mean` over all tokens, or `variates`: the mean of each variate's, side by side (N, C D).
        normalize: `instance`, as both papers have it, which takes level and scale of each variate away, or `none`.
        checkpoint: A file of weights; null for random ones.
        checkpoint_prefix: What the names in it begin with; null to find out.
        strict: False loads what fits of the checkpoint, and records in the identity what did not.
        seed: Of the random weights.
        precision: `float32` or `bfloat16`.
        taps: Further layers of `itransformer`, such as `layers.0`, see `FrozenNetwork`.
    """

    reads = "series"

    def __init__(
        self,
        model: str = "itransformer",
        length: int = 96,
        channels: int = 1,
        dim: int = 128,
        depth: int = 2,
        heads: int = 4,
        patch: int = 8,
        stride: int = 4,
        pooling: str = "mean",
        normalize: str = "instance",
        checkpoint: str | None = None,
        checkpoint_prefix: str | None = None,
        strict: bool = True,
        seed: int = 0,
        precision: str = "float32",
        taps: Sequence[str] = (),
    ):
        check_normalize(normalize, "series_transformer")
        sizes = {"length": length, "channels": channels, "dim": dim, "depth": depth, "heads": heads, "patch": patch}
        wrong = [f"{key} is {value}, expected at least 1" for key, value in {**sizes, "stride": stride}.items()
                 if value < 1]  # fmt: skip
        for key, value, known in (("model", model, MODELS), ("pooling", pooling, POOLINGS)):
            wrong += [] if value in known else [f"{key} is {value!r}, expected one of {', '.join(known)}"]
        wrong += [f"dim is {dim} and heads {heads}, expected a multiple of it"] if heads > 0 and dim % heads else []
        if model == "patchtst" and patch > length:
            wrong.append(f"patch is {patch}, expected at most length, {length}")
        if wrong:
            raise InputError(f"{'; '.join(wrong)}: change the parameters of backbone series_transformer")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _Encoder(model, length, dim, depth, heads, patch, stride)
        self._misfits = load_checkpoint(network, checkpoint, checkpoint_prefix, strict) if checkpoint else {}
        self._facts = {"family": "series_transformer", "model": model, "heads": heads, "pooling": pooling}
        self._facts |= {"stride": stride} if model == "patchtst" else {}
        self.length, self.channels, self.pooling, self.normalize = length, channels, pooling, normalize
        name = f"{model}:{Path(checkpoint).stem}" if checkpoint else f"{model}-random"
        super().__init__(network, name=name, precision=precision, taps=taps)

    def transform(self, row: Any) -> Tensor:
        """One series as (T, C) float32."""
        series = require_series(row, self.name)
        self.check_lengths(len(series), len(series))
        if series.shape[1] != self.channels:
            raise InputError(
                f"a series has {series.shape[1]} channels, backbone {self.name} reads {self.channels}: set "
                f"backbone.channels={series.shape[1]}"
            )
        return normalised(series, self.normalize)

    def check_lengths(self, least: int, most: int) -> None:
        """Refuses series that are longer than the weights reach."""
        if most > self.length:
            raise InputError(
                f"a series has {most} steps, backbone {self.name} reads at most {self.length}: set backbone.length="
                f"{most}, or give a checkpoint for such"
            )

    def collate(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        """Series as one batch with a mask."""
        return padded(rows, self.name)

    def _blank(self) -> dict[str, Tensor]:
        return padded([torch.zeros(self.length, self.channels)], self.name)

    def _features(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mask = torch.zeros(len(batch[MASK]), self.length, dtype=torch.bool, device=batch[MASK].device)
        n_steps = min(self.length, batch[MASK].shape[1])
        mask[:, :n_steps] = batch[MASK][:, :n_steps]
        series = batch[SERIES].new_zeros(len(mask), self.length, self.channels)
        series[mask] = batch[SERIES][:, :n_steps][mask[:, :n_steps]]
        tokens, real = self.network(series, mask)
        weights = (real / real.sum(dim=1, keepdim=True)).to(tokens.dtype)
        of_variates = torch.einsum("np,ncpd->ncd", weights, tokens)
        pooled = of_variates.flatten(1) if self.pooling == "variates" else of_variates.mean(dim=1)
        return {"pooled": pooled, **({"tokens": of_variates} if self.network.of_variates else {})}

    def _architecture(self) -> dict[str, Any]:
        return {**self._facts, **({"misfits": self._misfits} if self._misfits else {})}

    def _preprocessing(self) -> dict[str, Any]:
        return {"normalize": self.normalize, "length": self.length}
