from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run_folders import write_record
from safetensors.numpy import load_file

from probe.backbones.identity import IdentityBackbone
from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.datasets.gaussians import load as gaussians
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.ncm import NearestClassMean
from probe.metrics.shared.recovery import gap_recovered
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.easy_to_hard import EasyToHard
from probe.protocols.full import Full
from probe.protocols.shared.hardness import read_hardness


@pytest.fixture(scope="module")
def wine() -> Dataset:
    return load(name="wine")


@pytest.fixture(scope="module")
def runs(wine: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every row of train and test scored by a head that was fitted without it."""
    root = tmp_path_factory.mktemp("hardness")
    for protocol in [*(CrossValidation(3, fold) for fold in range(3)), Full()]:
        head, store = NearestClassMean(), FeatureStore(root / "cache")
        run(Run(IdentityBackbone(), wine, protocol, head, store, root / "runs", device="cpu"))
    return root / "runs"


def write_run(folder: Path, data: Dataset, partition: str, rows: np.ndarray, probability: np.ndarray) -> None:
    facts = {"dataset": {"name": data.name, "fingerprint": data.fingerprint}, "features": {partition: "0"}}
    write_record(folder, {"row": rows, "label_probability": probability}, **facts)


def labels(data: Dataset, rows) -> np.ndarray:
    return np.asarray(data.partitions[rows.partition].labels)[rows.indices]


def test_hardness_is_the_mean_over_runs_of_what_the_label_lacks(make_dataset, tmp_path):
    data = make_dataset([2, 2])
    for i, (rows, p) in enumerate([([0, 1, 2, 3], [0.9, 0.5, 0.2, 1.0]), ([2, 3], [0.6, 0.0])]):
        write_run(tmp_path / f"a{i}", data, "train", np.array(rows), np.array(p))
    write_run(tmp_path / "b", data, "test", np.array([1, 0]), np.array([0.25, 0.75]))
    found = read_hardness(tmp_path, data)
    assert found["train"] == pytest.approx([0.1, 0.5, 0.6, 0.5])
    assert found["test"] == pytest.approx([0.25, 0.75])


def test_hardness_of_runs_covers_every_row(wine, runs):
    found = read_hardness(runs, wine)
    assert {name: len(h) for name, h in found.items()} == {n: len(p) for n, p in wine.partitions.items()}
    assert all(((h >= 0) & (h <= 1)).all() for h in found.values())


def test_easy_rows_are_easier_than_hard_ones_of_their_class(wine, runs):
    hardness = read_hardness(runs, wine)
    easy, hard = (EasyToHard(str(runs), part, part, 0.3, 0.0).split(wine, 0) for part in ("easy", "hard"))
    for one, other in ((easy.train, hard.train), (easy.test, hard.test)):
        values = hardness[one.partition]
        assert not set(one.indices) & set(other.indices)
        for k in range(3):
            own, theirs = (values[rows.indices[labels(wine, rows) == k]] for rows in (one, other))
            assert own.max() <= theirs.min()


def test_all_arms_train_on_the_same_number_of_each_class(wine, runs):
    counts = [
        np.bincount(labels(wine, EasyToHard(str(runs), part, "hard", 0.3, 0.0).split(wine, 0).train)).tolist()
        for part in ("easy", "hard", "all")
    ]
    assert counts[0] == counts[1] == counts[2]


def test_easy_and_hard_do_not_depend_on_the_seed_and_all_does(wine, runs):
    def drawn(part, seed):
        return EasyToHard(str(runs), part, "hard", 0.3, 0.0).split(wine, seed).train.indices.tolist()

    assert drawn("hard", 0) == drawn("hard", 1)
    assert drawn("all", 0) != drawn("all", 1)


def test_validation_is_cut_from_the_part_that_trains(wine, runs):
    split, whole = (EasyToHard(str(runs), "hard", "all", 0.5, fraction).split(wine, 0) for fraction in (0.2, 0.0))
    assert sorted([*split.train.indices, *split.validation.indices]) == whole.train.indices.tolist()
    assert len(split.test) == len(wine.partitions["test"])


def test_equal_hardness_still_parts_the_rows(make_dataset, tmp_path):
    data = make_dataset([10, 6], test=np.repeat([0, 1], [4, 4]))
    for name in ("train", "test"):
        n = len(data.partitions[name])
        write_run(tmp_path / name, data, name, np.arange(n), np.full(n, 0.5))
    for share in (0.01, 0.3, 0.5):
        easy, hard = (EasyToHard(str(tmp_path), part, part, share, 0.0).split(data, 0) for part in ("easy", "hard"))
        assert len(easy.train) == len(hard.train) == sum(max(1, int(n * share)) for n in (10, 6))
        assert not set(easy.train.indices) & set(hard.train.indices)


def test_a_score_falls_from_easy_to_hard_rows(wine, runs, tmp_path):
    scores = {}
    for part in ("easy", "hard"):
        request = Run(
            IdentityBackbone(), wine, EasyToHard(str(runs), "easy", part), NearestClassMean(),
            FeatureStore(tmp_path / "cache"), tmp_path / "runs", device="cpu",
        )  # fmt: skip
        scores[part] = json.loads((run(request) / "result.json").read_text())["metrics"]["top1"]["value"]
    assert scores["easy"] > scores["hard"] + 0.2


def test_hardness_by_chance_makes_easy_rows_teach_as_much_as_hard_ones(tmp_path):
    data, rng, correct = gaussians(n_classes=3, n_features=4, distance=2.0), np.random.default_rng(0), []
    for name, partition in data.partitions.items():
        write_run(tmp_path / "h" / name, data, name, np.arange(len(partition)), rng.random(len(partition)))
    for part in ("easy", "hard"):
        protocol, store = EasyToHard(str(tmp_path / "h"), part), FeatureStore(tmp_path / "cache")
        request = Run(IdentityBackbone(), data, protocol, NearestClassMean(), store, tmp_path / "runs", device="cpu")
        correct.append(load_file(run(request) / "predictions.safetensors")["label_rank"][None] == 0)
    assert len(correct[0][0]) == len(correct[1][0]) == 599  # 30 % of 667, 667 and 666
    found = gap_recovered(*correct, 1 / 3)
    assert found.low < 1 < found.high
    assert found.high - found.low < 0.3


def test_rows_that_no_run_tested_are_counted(make_dataset, tmp_path):
    data = make_dataset([3, 3])
    write_run(tmp_path / "a", data, "train", np.array([0, 1]), np.array([0.1, 0.2]))
    with pytest.raises(InputError, match=r"tell nothing of 4 of 6 rows of train and 2 of 2 rows of test of dataset ro"):
        read_hardness(tmp_path, data)


def test_runs_of_another_dataset_do_not_count(wine, runs, make_dataset):
    with pytest.raises(InputError, match=r"6 of 6 rows of train .*\(there are runs of wine, or of other rows\)"):
        read_hardness(runs, make_dataset([3, 3]))


def test_class_with_one_row_is_refused(make_dataset, tmp_path):
    data = make_dataset([3, 1])
    for name in ("train", "test"):
        n = len(data.partitions[name])
        write_run(tmp_path / name, data, name, np.arange(n), np.linspace(0, 1, n))
    with pytest.raises(InputError, match="class c1 of dataset rows has 1 training rows, an easy and"):
        EasyToHard(str(tmp_path)).split(data, 0)


@pytest.mark.parametrize("wrong", [{"train": "medium"}, {"test": "tough"}, {"share": 0.6}, {"share": 0.0}])
def test_unknown_parts_and_shares_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected easy, hard or all, and a share above 0 and at most 0\.5"):
        EasyToHard(**wrong)


def test_hardness_of_the_dataset_itself_parts_the_rows(make_dataset):
    data = make_dataset([10, 10], test=np.repeat([0, 1], 10))
    for partition in data.partitions.values():
        partition.hardness = np.arange(20)[::-1]
    split = EasyToHard(None, "easy", "hard", 0.2, 0.0).split(data, 0)
    for rows, hard in ((split.train, False), (split.test, True)):
        hardness = data.partitions[rows.partition].hardness
        for k in (0, 1):
            own = labels(data, rows) == k
            of_class = np.sort(hardness[np.asarray(data.partitions[rows.partition].labels) == k])
            assert sorted(hardness[rows.indices[own]]) == (of_class[-2:] if hard else of_class[:2]).tolist()


def test_datasets_without_hardness_are_refused(make_dataset):
    data = make_dataset([3, 3])
    with pytest.raises(InputError, match=r"dataset rows has no hardness of its own for train and test: name its"):
        EasyToHard(None).split(data, 0)
    data.partitions["train"].hardness = np.arange(6)
    assert len(EasyToHard(None, "easy", "all", 0.5, 0.0).split(data, 0).test) == 2


def contract_case(folder, data):
    """Runs that say how hard each row is."""
    for name in ("train", "test"):
        facts = {"dataset": {"name": data.name, "fingerprint": data.fingerprint}, "features": {name: "0"}}
        rows = np.arange(len(data.partitions[name]))
        arrays = {"row": rows, "label_probability": np.random.default_rng(0).random(len(rows))}
        write_record(folder / "runs" / "hardness" / name, arrays, **facts)
