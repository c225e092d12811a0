"""Series on their way into a backbone: checked, normalised each by itself, and padded at the end with a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.core.errors import InputError

NORMALISATIONS = ("none", "instance")
EPSILON = 1e-5
"""Added to a variance, as iTransformer does."""
SERIES, MASK = "series", "mask"
"""Names in a batch: (N, T, C) float32, 0 behind the end of a series, and (N, T), whether a step is one."""


def check_normalize(normalize: str, name: str) -> None:
    """Refuses another word than those of `NORMALISATIONS`."""
    if normalize not in NORMALISATIONS:
        raise InputError(
            f"normalize is {normalize!r}, expected one of {', '.join(NORMALISATIONS)}: change it of backbone {name}"
        )


def require_series(row: Any, name: str) -> NDArray[np.float64]:
    """A row (T, C) as it is; anything else is refused, and so are values that are missing or infinite."""
    if not isinstance(row, np.ndarray) or row.ndim != 2 or row.dtype.kind not in "fiub" or not row.size:
        shape = f" of shape {row.shape}" if isinstance(row, np.ndarray) else ""
        raise InputError(
            f"backbone {name} reads series, numbers (steps, channels), this row is {type(row).__name__}{shape}: set "
            "backbone=identity for vectors, or another one that reads what the rows are"
        )
    series: NDArray[np.float64] = row.astype(np.float64)
    if len(odd := np.argwhere(~np.isfinite(series))):
        step, channel = odd[0]
        raise InputError(
            f"step {step} of channel {channel} of a series is {series[step, channel]}, expected a finite number: fill "
            "it in, in files with dataset.gaps=interpolate"
        )
    return series


def normalised(series: NDArray[np.float64], normalize: str) -> Tensor:
    """(T, C) in float32; with `instance` (x - mean) / sqrt(var + 1e-5) over the steps of each channel."""
    if normalize == "instance":
        series = (series - series.mean(axis=0)) / np.sqrt(series.var(axis=0) + EPSILON)
    return torch.from_numpy(series.astype(np.float32))


def padded(rows: Sequence[Tensor], name: str) -> dict[str, Tensor]:
    """Series as one batch, of the longest one's length."""
    if len(channels := sorted({row.shape[1] for row in rows})) > 1:
        raise InputError(
            f"series have {', '.join(map(str, channels))} channels, backbone {name} needs as many in every row: leave "
            "channels out"
        )
    lengths = torch.tensor([len(row) for row in rows])
    series = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    return {SERIES: series, MASK: torch.arange(series.shape[1]) < lengths[:, None]}


def by_length(batch: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Rows of each length: nothing is computed with padding where they go through a backbone apart."""
    lengths = batch[MASK].sum(dim=1)
    return {int(n): torch.nonzero(lengths == n)[:, 0] for n in lengths.unique()}
