"""Runs that fit on one dataset and test on another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.identity import IdentityBackbone
from probe.core.base import Dataset, Rows, Split
from probe.core.errors import InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.experiment.transfer import transfer
from probe.features.store import FeatureStore
from probe.heads.ncm import NearestClassMean
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.full import Full

MEANS = {"ant": (0.0, 0.0), "bee": (6.0, 0.0), "cow": (0.0, 6.0)}


def animals(name: str, classes: tuple[str, ...], shift: float = 0.0, seed: int = 0, n: int = 40) -> Dataset:
    """Normal classes in two dimensions; `shift` moves every row along the first axis."""
    rng = np.random.default_rng(seed)
    parts = {}
    for part in ("train", "test"):
        labels = np.arange(n) % len(classes)
        rows = rng.normal(size=(n, 2)) + np.array([MEANS[c] for c in classes])[labels] + [shift, 0.0]
        parts[part] = ArrayPartition(rows.astype(np.float32), labels, [str(i) for i in range(n)])
    return make_dataset(name, list(classes), parts)


@pytest.fixture
def here() -> Dataset:
    return animals("here", ("ant", "bee", "cow"))


@pytest.fixture
def result(tmp_path: Path) -> Any:
    def make(dataset: Dataset, test_on: Dataset | None = None, **changes: Any) -> dict[str, Any]:
        request: dict[str, Any] = {"protocol": Full(), "head": NearestClassMean()} | changes
        store = FeatureStore(tmp_path / "cache")
        folder = run(
            Run(IdentityBackbone(), dataset, store=store, folder=tmp_path / "runs", device="cpu", test_on=test_on,
                **request)
        )  # fmt: skip
        return json.loads((folder / "result.json").read_text())

    return make


def test_classes_are_matched_by_name_whatever_their_order(here, result):
    there = animals("there", ("cow", "ant", "bee"), seed=1)
    assert result(here, there)["metrics"]["top1"]["value"] > 0.9
    assert transfer(here, there).codes.tolist() == [2, 0, 1]


def test_classes_in_the_same_order_score_as_the_second_dataset_scores_its_own_test_rows(here, result):
    """Oracle: the two datasets put together by hand."""
    there = animals("there", ("ant", "bee", "cow"), shift=4.0, seed=1)
    by_hand = Dataset("both", here.class_names, {**here.partitions, "test": there.partitions["test"]})
    found, expected = result(here, there, protocol=Full(0.0)), result(by_hand, protocol=Full(0.0))
    assert found["metrics"] == expected["metrics"]
    assert found["metrics"]["top1"]["value"] < result(here)["metrics"]["top1"]["value"]


def test_dataset_with_some_of_the_classes_is_predicted_among_all(here, result):
    there = animals("there", ("bee", "ant"), shift=-3.0, seed=1)
    found = result(here, there)
    assert found["protocol"]["n_test"] == 40
    assert found["dataset"]["class_names"] == ["ant", "bee", "cow"]


def test_training_rows_stay_those_of_the_first_dataset(here, result):
    there = animals("there", ("ant", "bee", "cow"), seed=1)
    assert result(here, there)["features"]["train"] == result(here)["features"]["train"]
    split = Full().split(here, 0)
    moved = transfer(here, there).split(split)
    assert moved.train is split.train
    assert moved.validation is split.validation


def test_second_dataset_is_named_and_determines_the_run(here, result):
    one, other = (animals("there", ("ant", "bee", "cow"), seed=seed) for seed in (1, 2))
    found = [result(here), result(here, one), result(here, other)]
    assert [f["labels"]["dataset"] for f in found] == ["here", "here to there", "here to there"]
    assert found[1]["dataset"]["test_on"] == {"name": "there", "fingerprint": one.fingerprint}
    assert "test_on" not in found[0]["dataset"]
    assert len({f["run"]["digest"] for f in found}) == 3
    # What the leaderboard compares before it puts two runs into one column.
    assert len({f["dataset"]["test_rows"] for f in found}) == 3


def test_cross_validation_trains_on_its_folds_and_tests_elsewhere(here, result):
    there = animals("there", ("ant", "bee", "cow"), seed=1, n=50)
    found = result(here, there, protocol=CrossValidation(n_folds=4, fold=1))
    assert found["protocol"]["n_test"] == 50
    assert found["protocol"]["n_train"] + found["protocol"]["n_validation"] == 30


def test_unknown_classes_are_refused_by_name(result):
    first, second = animals("here", ("ant", "bee")), animals("there", ("cow", "ant", "bee"))
    with pytest.raises(InputError, match=r"dataset there tests class cow that dataset here does not know, which has 2"):
        result(first, second)


def test_dataset_without_test_rows_is_refused(here):
    there = Dataset("there", here.class_names, {"train": here.partitions["train"]})
    with pytest.raises(InputError, match=r"dataset there has no partition test, only \['train'\]"):
        transfer(here, there)


def test_rows_of_the_replaced_partition_cannot_train(here):
    rows = np.arange(3)
    split = Split(Rows("train", rows), Rows("test", rows), Rows("test", rows + 3))
    with pytest.raises(InputError, match="rows of partition test train or validate here"):
        transfer(here, here).split(split)


def test_classes_are_matched_however_their_accents_are_stored():
    rows = np.zeros((2, 1), np.float32)
    one, two = (
        make_dataset(name, classes, {part: ArrayPartition(rows, [0, 1], ["a", "b"]) for part in ("train", "test")})
        for name, classes in (("one", ["Hund", "Löwe"]), ("two", ["Lo\u0308we", "Hund"]))
    )
    assert transfer(one, two).codes.tolist() == [1, 0]
