"""Small backbones and datasets for the tests of the feature store."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probe.core.base import Dataset
from probe.core.hashing import hash_arrays, hash_tensors
from probe.core.ragged import Ragged
from probe.features.store import Features, FeatureStore

KINDS = ["pooled", "tokens", "map", "blocks.0"]
"""Those of `ToyBackbone` of which all rows have one shape."""


class Unguarded(FeatureStore):
    """Extracts each row once, so that rows can be counted: what is checked before has tests of its own."""

    def _guard(self, *_: Any) -> None:
        pass


class ToyBackbone:
    """A fixed random network on rows of 12 numbers. Counts the rows it extracts."""

    name = "toy"
    kinds = ("pooled", "tokens", "map", "blocks.0", "words")
    ragged = ("words",)
    n_prefix_tokens = 1
    n_parameters = 12 * 64

    def __init__(self, seed: int = 0, delay: float = 0.0, mean: float = 0.0, width: int = 64):
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(12, width, generator=generator)
        self.delay, self.mean = delay, mean
        self.rows_extracted = 0
        self.asked: list[tuple[str, ...]] = []

    def identity(self) -> dict[str, Any]:
        return {"architecture": "toy", "weights": hash_tensors({"w": self.weight}), "mean": self.mean}

    def transform(self, row: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(row, dtype=np.float32)) - self.mean

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        time.sleep(self.delay)
        self.rows_extracted += len(batch)
        self.asked.append(tuple(kinds))
        hidden = torch.tanh(batch @ self.weight)
        every = {
            "pooled": hidden,
            "tokens": torch.stack([hidden, hidden**2, -hidden], dim=1),
            "map": hidden.reshape(len(hidden), -1, 2, 2),
            "blocks.0": torch.softmax(hidden, dim=1),
            "words": self.words(batch, hidden),
        }
        return {kind: every[kind] for kind in kinds}

    def words(self, batch: torch.Tensor, hidden: torch.Tensor) -> Ragged:
        """One to four multiples of what is hidden, as many as the row says."""
        lengths = 1 + (10 * batch[:, 0].abs()).long() % 4
        values = torch.cat([torch.outer(torch.arange(1, n + 1), one) for n, one in zip(lengths, hidden, strict=True)])
        return Ragged(values, lengths)

    def to(self, device: str) -> ToyBackbone:
        return self


class ToyPartition:
    """Random rows; `broken` rows raise, as an image that cannot be decoded does."""

    def __init__(self, n: int = 100, seed: int = 0, broken: tuple[int, ...] = (), log: Path | None = None):
        self.rows = np.random.default_rng(seed).normal(size=(n, 12)).astype(np.float32)
        self.labels = np.arange(n, dtype=np.int64) % 3
        self.ids = [f"images/{i:04d}.png" for i in range(n)]
        self.broken, self.log = broken, log

    @property
    def fingerprint(self) -> str:
        ids = hashlib.sha256("\n".join(self.ids).encode()).hexdigest()
        return hash_arrays({"rows": self.rows, "labels": self.labels}) + ids

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> np.ndarray:
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{row}\n")
        if row in self.broken:
            raise OSError("image file is truncated")
        return self.rows[row]


def toy_dataset(n: int = 100, **options: Any) -> Dataset:
    parts = {"train": ToyPartition(n, **options), "test": ToyPartition(17, seed=1)}
    return Dataset("toys", ("a", "b", "c"), parts)


def get(store: FeatureStore, backbone: Any, dataset: Dataset, kinds: Any = ("pooled",), **options: Any) -> Features:
    options = {"batch_size": 8, "progress": False, "device": "cpu"} | options
    return store.get(backbone, dataset, options.pop("partition", "train"), list(kinds), **options)
