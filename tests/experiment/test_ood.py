"""Runs that tell rows of unknown classes from their test rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probe
from probe.backbones.identity import IdentityBackbone
from probe.command.config import compose
from probe.command.values import sets_of_rows
from probe.core.base import Dataset
from probe.core.errors import DoesNotFit, InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.knn import KNearest
from probe.heads.lda import LinearDiscriminant
from probe.heads.none import NoHead
from probe.leaderboard.board import read_board
from probe.leaderboard.index import read_folders
from probe.leaderboard.table import build_table
from probe.ood.shared.score import scores
from probe.protocols.full import Full

CENTRES = {"ant": (0, 0, 0), "bee": (9, 0, 0), "cow": (0, 9, 0), "elk": (9, 9, 9), "fox": (2, 1, 0), "owl": (9, 9, -9)}


def animals(name: str, classes: tuple[str, ...], seed: int = 0, n: int = 60, poison: bool = False) -> Dataset:
    rng, parts = np.random.default_rng(seed), {}
    for part in ("train", "test"):
        labels = np.arange(n) % len(classes)
        rows = rng.normal(size=(n, 3)) + np.array([CENTRES[c] for c in classes], dtype=float)[labels]
        rows = rows * 1000 if poison and part == "test" else rows
        parts[part] = ArrayPartition(rows.astype(np.float32), labels, [str(i) for i in range(n)])
    return make_dataset(name, list(classes), parts)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def result(tmp_path: Path, store: FeatureStore) -> Any:
    def make(ood: dict[str, Dataset], **changes: Any) -> dict[str, Any]:
        request: dict[str, Any] = {"protocol": Full(), "head": LinearDiscriminant()} | changes
        dataset = request.pop("dataset", animals("here", ("ant", "bee", "cow")))
        asked = Run(
            IdentityBackbone(), dataset, store=store, folder=tmp_path / "runs", device="cpu", ood=ood, **request
        )
        return json.loads((run(asked) / "result.json").read_text())

    return make


def sets() -> dict[str, Dataset]:
    return {"far": animals("far", ("elk", "owl"), seed=1), "near": animals("near", ("fox", "elk"), seed=2)}


def test_every_score_has_every_measure_on_every_set_with_an_interval(result):
    found = result(sets())
    names = {name for name in found["metrics"] if name.startswith("ood_")}
    measures = ("auroc", "fpr95", "fpr95_ood_positive", "aupr_in", "aupr_out")
    assert names == {f"ood_{m}@{place}.{name}" for m in measures for place in ("far", "near") for name in scores()}
    for name in names:
        value = found["metrics"][name]
        assert 0 <= value["low"] <= value["value"] <= value["high"] <= 1
    assert found["metrics"]["ood_auroc@far.mds"]["value"] > 0.99
    assert found["ood_rows"] == {"n_known": 60, "n_unknown": {"far": 60, "near": 60}, "left_out": {}}


def test_sets_move_no_other_number_and_make_a_run_of_their_own(result):
    alone, beside, other = result({}), result(sets()), result({"far": sets()["far"]})
    for name, value in alone["metrics"].items():
        assert beside["metrics"][name] == value
    assert len({found["run"]["digest"] for found in (alone, beside, other)}) == 3
    assert "ood" not in alone
    assert beside["ood"]["sets"]["far"]["name"] == "far"


def test_a_poisoned_set_moves_no_number_of_another_and_no_fit(result):
    clean = result(sets())
    poisoned = result(sets() | {"near": animals("near", ("fox", "elk"), seed=2, poison=True)})
    kept = [name for name in clean["metrics"] if "@near" not in name]
    assert all(clean["metrics"][name] == poisoned["metrics"][name] for name in kept)


def test_scores_that_a_head_does_not_allow_are_named_with_the_reason(result):
    found = result(sets(), head=KNearest(ks=[3]))
    assert set(found["ood_rows"]["left_out"]) == {"residual", "vim", "fdbd", "nci"}
    assert "ood_auroc@far.knn" in found["metrics"]


def test_standardised_rows_are_scored_as_standardised(result):
    found = result(sets(), standardize=True)
    assert found["metrics"]["ood_auroc@far.mds"]["value"] > 0.99


def test_a_set_that_shares_classes_is_refused_by_name(result):
    with pytest.raises(InputError, match="ood set near, dataset near, tests class bee that dataset here knows"):
        result({"near": animals("near", ("bee", "elk"))})


def test_a_set_without_test_rows_or_of_another_width_is_refused(result):
    far = sets()["far"]
    with pytest.raises(InputError, match="dataset far has no partition test"):
        result({"far": Dataset("far", far.class_names, {"train": far.partitions["train"]})})
    rows = ArrayPartition(np.zeros((4, 2), np.float32), np.arange(4) % 2, list("abcd"))
    with pytest.raises(InputError, match=r"dataset flat, has rows of the shape \(2,\), the test rows \(3,\)"):
        result({"far": make_dataset("flat", ["elk", "owl"], {"train": rows, "test": rows})})


def test_a_run_without_a_head_is_refused(result):
    with pytest.raises(DoesNotFit, match=r"ood asks of which class of dataset here a row is, .* head none predicts"):
        result(sets(), head=NoHead())


def test_the_board_ranks_by_a_measure_of_a_score_on_a_set(tmp_path):
    given = {"runs": tmp_path, "cache": tmp_path / "cache", "quiet": True, "dataset": animals("here", ("ant", "bee"))}
    made = [probe.run(head=head, ood=sets(), **given) for head in ("lda", "ncm")]
    folders = [run.folder for run in made]
    for metric in ("ood_auroc@near.mds", "ood_fpr95_ood_positive@far.knn"):
        assert len(read_board(folders, metric, None, None, []).frame) == 2
    with pytest.raises(InputError, match=r"metric 'ood_fpr95@near.mds' cannot rank, for test rows have no part in it"):
        read_board(folders, "ood_fpr95@near.mds", None, None, [])
    assert made[0].record["config"]["ood"]["far"]["live"] == "dataset far"


def test_rows_with_and_without_sets_are_told_apart_by_their_names(tmp_path):
    given = {"runs": tmp_path, "cache": tmp_path / "cache", "quiet": True, "dataset": animals("here", ("ant", "bee"))}
    beside: tuple[dict[str, Dataset] | None, ...] = (None, sets(), {"far": sets()["far"]})
    folders = [probe.run(head="lda", ood=ood, **given).folder for ood in beside]
    table = build_table(read_folders(folders))
    assert table.rows == ("backbone", "head", "ood")
    assert sorted(table.ranking["ood"]) == ["", "far", "far, near"]


def test_a_list_of_names_is_a_dataset_for_each():
    words = sets_of_rows("ood=[iris,near:wine]")
    assert words == ["+dataset@ood.iris=iris", "+dataset@ood.near=wine"]
    config = compose(["backbone=identity", "ood=[iris,near:wine]"])
    assert config["ood"]["near"]["_target_"] == compose(["dataset=wine"])["dataset"]["_target_"]
    assert compose([]).get("ood") is None
