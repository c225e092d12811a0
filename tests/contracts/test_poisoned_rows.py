"""Whole runs of every head and every protocol whose test rows are garbage: no bit of what is fitted or chosen moves."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from contract_cases import contract_case
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from places import CONF

from probe.core import tensors
from probe.core.abilities import MeasuresFeatures
from probe.core.base import Dataset
from probe.core.hashing import hash_tensors
from probe.core.targets.labels import Labels
from probe.core.targets.number import Number
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.experiment.prompts import is_apart
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.base import AnyHead
from probe.protocols.full import Full
from probe.results.reader import read_result

WIDTH, FULL = 16, Full()
SMALL = {"epochs": 2, "learning_rates": 0.01, "hidden_width": 16, "trunk_width": 8, "n_groups": 2,
         "n_projected": 40, "thresholds": 5, "alphas": 3, "betas": 3}  # fmt: skip
"""Parameters that make a head quick, where it has them; lists hold this alone."""
HEADS = {path.stem: OmegaConf.load(path) for path in sorted((CONF / "head").glob("*.yaml"))}
KINDS = {name: get_class(yaml["_target_"]) for name, yaml in HEADS.items() if "_target_" in yaml}
# What measures features fits nothing; what asks a language model how likely words are wants one.
KINDS = {n: kind for n, kind in KINDS.items() if not issubclass(kind, MeasuresFeatures) and not is_apart(kind)}


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

    def check(self, other: Kept) -> None:
        assert self.chosen == other.chosen
        assert self.fitted.keys() == other.fitted.keys()
        for name, array in self.fitted.items():
            np.testing.assert_array_equal(array, other.fitted[name], err_msg=name)


def ran(folder: Any, data: Dataset, head: Any, protocol: Any = FULL, **options: Any) -> tuple[Kept, Any]:
    made = run(Run(Every(), data, protocol, head, FeatureStore(folder / "cache"), folder / "runs", device="cpu",
                   features={"progress": False}, **options))  # fmt: skip
    record, fitted = read_result(made), {}
    for name in ("head", "calibrated", "validation"):
        path = made / f"{name}.safetensors"
        arrays, told = tensors.read(path) if path.exists() else ({}, {})
        told.pop("digest", None)  # of the arrays
        fitted |= {f"{name}/{key}": array for key, array in arrays.items()} | {name: json.dumps(told, sort_keys=True)}
    if "head/model_" in fitted:  # of scikit-learn, whose files name places in memory
        fitted["head/model_"] = AnyHead.load(made / "head.safetensors").predict(data.partitions["train"].rows)
    chosen = {key: record.get(key) for key in ("selection", "thresholds", "calibrate")}
    return Kept(fitted, chosen), record["metrics"]


def poisoned(data: Dataset, partition: str, rows: np.ndarray) -> Dataset:
    """The dataset with garbage in some rows of a partition."""
    garbage = Poisoned(data.partitions[partition], rows, data.target)
    return replace(data, partitions={**data.partitions, partition: garbage})


def head_of(name: str, target: str) -> Any:
    """A head, with parameters that make it quick, and two of what it searches."""
    head = instantiate(HEADS[name], _convert_="all")
    parameters = head.get_params(deep=False)
    small = {key: value for key, value in SMALL.items() if key in parameters}
    small = {key: [value] if isinstance(parameters[key], list) else value for key, value in small.items()}
    small |= {key: parameters[key][:2] for key in head.searches.values() if isinstance(parameters[key], list)}
    case = {"one_class": "recipe_case", "number": "number_case"}.get(target)
    given = (contract_case("heads", name, case) or dict)() if case else {}
    given = {key: value for key, value in given.items() if key not in ("class_features", "temperature")}
    return head.set_params(**small | given)


FEWER = {"long_tail": {"imbalance": 3.0}, "rows": {"n": 20}}
"""What protocols draw of so few rows."""
CASES = [
    pytest.param(name, target, id=f"{name}-{target}")
    for name, kind in KINDS.items()
    for target in ("one_class", "number", "labels")
    if target in kind.fits
]


@pytest.mark.parametrize(("name", "target"), CASES)
def test_garbage_in_the_test_rows_moves_nothing_that_a_head_learns_or_chooses(name, target, tmp_path):
    head = head_of(name, target)
    data = dataset(target, grouped=head.balances_groups)
    options = {"reads": {"cells": ["a", "b"]}} if head.consumes == ("cells",) else {}
    given = [data, poisoned(data, "test", np.arange(24))]
    (clean, of_clean), (other, of_other) = [ran(tmp_path / str(i), g, head, **options) for i, g in enumerate(given)]
    clean.check(other)
    assert of_clean != of_other


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "protocol").glob("*.yaml")))
def test_garbage_in_the_rows_that_a_protocol_tests_on_moves_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = dataset(n=1000 if name == "vtab1k" else 60)
    protocol = instantiate(OmegaConf.load(CONF / "protocol" / f"{name}.yaml"), **FEWER.get(name, {}))
    if case := contract_case("protocols", name):
        case(tmp_path, data)
    split = protocol.split(data, 0)
    monkeypatch.setattr(type(protocol), "split", lambda self, data, seed: split)  # though labels change
    given = [data, poisoned(data, split.test.partition, split.test.indices)]
    streams = hasattr(protocol, "tasks")
    head = NearestClassMean(device="cpu") if streams else LinearProbe(Cs=[0.01, 1.0], device="cpu")
    options = {} if streams else {"calibrate": True, "conformal_level": 0.5, "standardize": True}
    found = [ran(tmp_path / str(i), g, head, protocol, **options) for i, g in enumerate(given)]
    found[0][0].check(found[1][0])
    assert found[0][1] != found[1][1]
