"""Runs on rows whose groups are in training and test rows alike."""

from __future__ import annotations

import json

import numpy as np
import pytest

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import DoesNotFit, InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.row_facts import know
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.dfr import GroupBalanced
from probe.heads.linear import LinearProbe
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.full import Full


def birds(named=True, of=("land", "water"), seed=0):
    rng, parts = np.random.default_rng(seed), {}
    for part, sizes in (("train", [180, 20, 20, 180]), ("test", [60, 60, 60, 60])):
        y, place = (np.repeat(values, sizes) for values in ([0, 0, 1, 1], [0, 1, 0, 1]))
        X = rng.normal(size=(len(y), 4)).astype(np.float32)
        X[:, 0] += 2.5 * y
        X[:, 1] += 5 * place
        groups = np.array(of if part == "train" else ("land", "water"))[place] if named else None
        parts[part] = know(ArrayPartition(X, y, [str(i) for i in range(len(y))]), {"groups": groups}, part)
    return make_dataset("birds", ["gull", "wren"], parts)


@pytest.fixture
def result(tmp_path):
    def make(dataset, head, **changes):
        request = {"protocol": Full(), "store": FeatureStore(tmp_path / "cache"), "folder": tmp_path / "runs"} | changes
        return json.loads(
            (run(Run(IdentityBackbone(), dataset, head=head, device="cpu", **request)) / "result.json").read_text()
        )

    return make


def test_the_worst_group_and_both_means_stand_in_the_result_and_dfr_lifts_the_worst(result):
    found = {name: result(birds(), head)["metrics"] for name, head in (
        ("linear", LinearProbe([1.0])), ("dfr", GroupBalanced([0.1, 1.0])))}  # fmt: skip
    for metrics in found.values():
        assert {"worst_group", "mean_per_group", "mean_by_training_groups", "top1"} <= set(metrics)
    assert found["dfr"]["worst_group"]["value"] > found["linear"]["worst_group"]["value"] - 0.02
    linear = found["linear"]
    assert linear["mean_by_training_groups"]["value"] >= linear["worst_group"]["value"]


def test_groups_that_never_train_have_no_worst(result):
    assert "worst_group" not in result(birds(of=("sand", "rock")), LinearProbe([1.0]))["metrics"]
    assert "worst_group" not in result(birds(named=False), LinearProbe([1.0]))["metrics"]


def test_dfr_is_refused_without_groups_and_where_it_cannot_see_all_of_them(result):
    with pytest.raises(InputError, match="head dfr balances groups of rows, dataset birds names none"):
        result(birds(named=False), GroupBalanced())
    with pytest.raises(DoesNotFit, match="protocol class_incremental"):
        result(birds(), GroupBalanced(), protocol=ClassIncremental(2))
