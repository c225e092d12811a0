"""What summary statistics tell of a series: a control of what its order in time is good for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.backbones.shared.series import require_series
from probe.core.errors import InputError


class SummaryBackbone:
    """Gives `pooled` (N, 5 C): of every channel mean, standard deviation, least, largest, and mean absolute step.

    A mean absolute step is that of |x_t - x_(t-1)|, 0 of a single step. Other backbones of series are held against
    these: where they tell no more, the course of a series tells no more.
    """

    name = "summary"
    reads = "series"
    kinds = ("pooled",)
    n_prefix_tokens = 0
    n_parameters = 0

    def identity(self) -> dict[str, Any]:
        """Facts that determine every feature."""
        return {"architecture": {"family": "summary", "version": 1, "statistics": "mean std min max step"}}

    def transform(self, row: Any) -> Tensor:
        """The statistics of one series, in float32."""
        x = require_series(row, self.name)
        steps = np.abs(np.diff(x, axis=0)).mean(axis=0) if len(x) > 1 else np.zeros(x.shape[1])
        found = [x.mean(axis=0), x.std(axis=0), x.min(axis=0), x.max(axis=0), steps]
        return torch.from_numpy(np.concatenate(found).astype(np.float32))

    def extract(self, batch: Tensor, kinds: Sequence[str]) -> dict[str, Tensor]:
        """The batch itself."""
        if unknown := sorted(set(kinds) - set(self.kinds)):
            raise InputError(f"backbone summary gives ['pooled'], not {unknown}: use a head that reads pooled features")
        return dict.fromkeys(kinds, batch)

    def to(self, device: str) -> SummaryBackbone:
        """Nothing to move: rows are not computed with there."""
        return self
