"""Runs whose rows are garbage under the fingerprint that they had, and what these leave."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probe.core import tensors
from probe.core.base import Dataset
from probe.core.hashing import hash_tensors
from probe.core.targets.labels import Labels
from probe.core.targets.number import Number
from probe.datasets.depth_scenes import load as depth_scenes
from probe.datasets.shapes import load as shapes
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.text_rows import TextPartition
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.shared.base import AnyHead
from probe.protocols.full import Full
from probe.results.reader import read_result

WIDTH, FULL = 16, Full()


class Words:
    """A tower that gives a text the same numbers each time."""

    name, reads, kinds, n_prefix_tokens, n_parameters, temperature = "words", "texts", ("pooled",), 0, 0, 0.1

    def identity(self) -> dict[str, Any]:
        return {"architecture": "words"}

    def tokenize(self, texts: Any) -> Any:
        return np.array([[sum(map(ord, text))] for text in texts], dtype=np.int64)

    def transform(self, row: Any) -> torch.Tensor:
        return torch.as_tensor(row)

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        drawn = [torch.randn(WIDTH, generator=torch.Generator().manual_seed(int(row[0]))) for row in batch]
        return {"pooled": torch.stack(drawn)}

    def to(self, device: str) -> Words:
        return self


class Every(Words):
    """Vectors of 16 numbers as all kinds of features."""

    name, reads, kinds, n_parameters = "every", "vectors", ("pooled", "tokens", "map", "token_ids", "a", "b"), WIDTH
    text = Words()

    def identity(self) -> dict[str, Any]:
        return {"architecture": "every", "weights": hash_tensors({"w": torch.arange(WIDTH)})}

    def transform(self, row: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(row, dtype=np.float32))

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        tokens = torch.stack([batch, batch.roll(1, 1), -batch, batch.tanh()], 1)
        every = {
            "pooled": batch, "tokens": tokens, "map": tokens.transpose(1, 2).reshape(len(batch), WIDTH, 2, 2),
            "token_ids": (batch * 4).long().remainder(50), "a": batch.tanh(), "b": batch.sin(),
        }  # fmt: skip
        return {kind: every[kind] for kind in kinds}


class Matrix(Words):
    """Words of one token each as rows of an output matrix, with their bias."""

    name, apart, n_words, temperature = "matrix", True, 50, 1.0

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        drawn = [torch.randn(WIDTH + 1, generator=torch.Generator().manual_seed(int(row[0]))) for row in batch]
        return {"pooled": torch.stack(drawn)}


class Saying(Every):
    """Of a text what an output matrix reads at a mask."""

    name, reads, kinds, pooling = "saying", "texts", ("pooled",), "mask"
    text = Matrix()

    def transform(self, row: Any) -> torch.Tensor:
        return torch.randn(WIDTH, generator=torch.Generator().manual_seed(sum(map(ord, row))))


class Poisoned(ArrayPartition):
    """Garbage in the place of some rows and of their labels, under the fingerprint that they had."""

    def __init__(self, clean: ArrayPartition, rows: np.ndarray, target: Any):
        random, X, y = np.random.default_rng(9), clean.rows.copy(), clean.labels.copy()
        X[rows] = 10 * random.standard_normal(X[rows].shape) - 5
        y[rows] = 100 - 3 * y[rows] if y.dtype.kind == "f" else random.permuted(y[rows].ravel()).reshape(y[rows].shape)
        super().__init__(X, y, clean.ids, target=target)
        self.given, self.sessions = clean.fingerprint, clean.sessions
        self.__dict__.update({"groups": clean.groups} if hasattr(clean, "groups") else {})

    @property
    def fingerprint(self) -> str:  # so that the same rows are drawn
        return self.given


def dataset(target: str = "one_class", grouped: bool = False, n: int = 60) -> Dataset:
    """Rows that lean towards their classes; grouped, they come in pairs of which both train or none."""
    random, parts = np.random.default_rng(0), {}
    centres, kind = 2 * random.standard_normal((4, WIDTH)), {"labels": Labels(), "number": Number()}.get(target)
    for name, rows in (("train", n), ("validation", 24), ("test", 24)):
        y = np.arange(rows) % 4
        X = (centres[y] + random.standard_normal((rows, WIDTH))).astype(np.float32)
        labels = {"labels": (X[:, :3] > 0).astype(np.int64), "number": X[:, :2] + y[:, None]}.get(target, y)
        ids = [f"{name}/{i}" for i in range(rows)]
        parts[name] = ArrayPartition(X, labels, ids, **({"target": kind} if kind else {}))
        parts[name].sessions = np.arange(rows) % 3
        if grouped:
            parts[name].groups = np.arange(rows) // 8 % 2
    names = [f"c{k}" for k in range({"labels": 3, "number": 2}.get(target, 4))]
    return make_dataset(f"of-{target}", names, parts, **({"target": kind} if kind else {}))


@dataclass(frozen=True)
class Kept:
    """What a run leaves that its test rows have no part in."""

    fitted: dict[str, Any]
    chosen: Any
    folder: Path = field(compare=False)

    def check(self, other: Kept) -> None:
        assert self.chosen == other.chosen
        assert self.fitted.keys() == other.fitted.keys()
        for name, array in self.fitted.items():
            np.testing.assert_array_equal(array, other.fitted[name], err_msg=name)


def ran(
    folder: Any, data: Dataset, head: Any, protocol: Any = FULL, *, backbone: Any = None, **options: Any
) -> tuple[Kept, Any]:
    made = run(Run(backbone or Every(), data, protocol, head, FeatureStore(folder / "cache"), folder / "runs",
                   device="cpu", features={"progress": False}, **options))  # fmt: skip
    record, fitted = read_result(made), {}
    for name in ("head", "calibrated", "validation"):
        path = made / f"{name}.safetensors"
        arrays, told = tensors.read(path) if path.exists() else ({}, {})
        told.pop("digest", None)  # of the arrays
        fitted |= {f"{name}/{key}": array for key, array in arrays.items()} | {name: json.dumps(told, sort_keys=True)}
    if "head/model_" in fitted:  # of scikit-learn, whose files name places in memory
        fitted["head/model_"] = AnyHead.load(made / "head.safetensors").predict(data.partitions["train"].rows)
    chosen = {key: record.get(key) for key in ("selection", "thresholds", "calibrate")}
    if temperature := (record.get("calibration") or {}).get("temperature"):
        chosen["temperature"] = temperature  # of masks, of which no calibrated head is kept
    return Kept(fitted, chosen, made), record["metrics"]


def scenes(n: int = 24) -> Dataset:
    """Small images with masks."""
    return shapes(n_train=n, n_test=8, size=16)


def depths(n: int = 24) -> Dataset:
    """Small images with depths."""
    return depth_scenes(n_train=n, n_test=8, size=16)


def other_scenes(data: Dataset) -> Dataset:
    """The dataset with other images and labels in its test partition, under the fingerprint that they had."""
    load = depth_scenes if data.target.name == "number_map" else shapes
    garbage = load(n_train=24, n_test=8, size=16, seed=9).partitions["test"]
    vars(garbage)["fingerprint"] = data.partitions["test"].fingerprint
    return replace(data, partitions={**data.partitions, "test": garbage})


def poisoned(data: Dataset, partition: str, rows: np.ndarray) -> Dataset:
    """The dataset with garbage in some rows of a partition."""
    garbage = Poisoned(data.partitions[partition], rows, data.target)
    return replace(data, partitions={**data.partitions, partition: garbage})


def sayings(word: str = "row") -> Dataset:
    """Texts of four classes, of which those that test are made with a word, under one fingerprint."""
    parts = {}
    for name, made, n in (("train", "row", 60), ("test", word, 24)):
        texts, ids = [f"{made} {i} {i % 4}" for i in range(n)], [str(i) for i in range(n)]
        parts[name] = TextPartition(texts, np.arange(n) % 4, ids)
    vars(parts["test"])["fingerprint"] = "the same"
    return make_dataset("sayings", [f"c{k}" for k in range(4)], parts, rows="texts")
