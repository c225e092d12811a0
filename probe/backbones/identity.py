"""Rows that already are vectors pass through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.core.errors import InputError


class IdentityBackbone:
    """Gives a (D,) row of numbers as `pooled`, in float32. For tabular rows and features from elsewhere."""

    name = "identity"
    reads = "vectors"
    kinds = ("pooled",)
    n_prefix_tokens = 0
    n_parameters = 0

    def identity(self) -> dict[str, Any]:
        """Facts that determine every feature."""
        return {"architecture": {"family": "identity", "version": 1}}

    def transform(self, row: Any) -> Tensor:
        """One (D,) row as a float32 tensor; anything else is refused."""
        if not isinstance(row, np.ndarray) or row.ndim != 1 or row.dtype.kind not in "fiub":
            shape = f" of shape {row.shape}" if isinstance(row, np.ndarray) else ""
            raise InputError(
                f"backbone identity reads rows of numbers, this dataset's rows are {type(row).__name__}{shape}: "
                "set backbone=tiny or another backbone for images"
            )
        with np.errstate(over="ignore"):
            found = row.astype(np.float32)
        if not np.isfinite(found).all() and np.isfinite(row).all():
            raise InputError(
                f"a row holds {row[np.abs(row).argmax()]:g}, too large for float32 of backbone identity, which ends "
                f"at {np.finfo(np.float32).max:g}: divide the column by its largest number, or leave it out"
            )
        return torch.from_numpy(found)

    def extract(self, batch: Tensor, kinds: Sequence[str]) -> dict[str, Tensor]:
        """The batch itself."""
        unknown = sorted(set(kinds) - set(self.kinds))
        if unknown:
            raise InputError(
                f"backbone identity gives ['pooled'], not {unknown}: use a head that reads pooled features"
            )
        return dict.fromkeys(kinds, batch)

    def to(self, device: str) -> IdentityBackbone:
        """Nothing to move: rows are not computed with."""
        return self
