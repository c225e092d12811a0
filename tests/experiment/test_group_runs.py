"""Runs on near-copies in groups: neither what is chosen nor what is measured profits from them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from probe.backbones.identity import IdentityBackbone
from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.row_facts import know
from probe.experiment.choosing import fit
from probe.experiment.request import Run, Teacher
from probe.experiment.run import run
from probe.experiment.teacher import out_of_fold_logits
from probe.features.store import FeatureStore
from probe.heads.dual_head_kd import DualHeadKD
from probe.heads.linear import LinearProbe
from probe.heads.linear_sgd import LinearSGD
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.leaderboard.command import write_sweep_table
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.protocols.holdout import Holdout
from probe.protocols.official import Official
from probe.protocols.recorded import Recorded
from probe.protocols.vtab1k import Vtab1k

N_GROUPS, COPIES = 50, 6


def draw(random: np.random.Generator, n_groups: int, copies: int, n_classes: int = 2) -> tuple[Any, ...]:
    """A little signal on an axis per class, and 60 axes that tell the groups apart."""
    y = np.arange(n_groups) % n_classes
    centres = random.normal(size=(n_groups, 60))
    centres[np.arange(n_groups), y] += 1.7
    groups = np.repeat(np.arange(n_groups), copies)
    return (centres[groups] + 0.05 * random.normal(size=(len(groups), 60))).astype(np.float32), y[groups], groups


def dataset(seed: int = 0, *, groups: bool = True, n_classes: int = 2, shared: bool = False) -> Dataset:
    random, parts = np.random.default_rng(seed), {}
    for name, n, copies in (("train", N_GROUPS, COPIES), ("test", 400, 1)):
        X, y, group = draw(random, n, copies, n_classes)
        part = ArrayPartition(X, y, [str(i) for i in range(len(y))])
        names = [f"{'' if shared else name} {g}" for g in group]
        parts[name] = know(part, {"groups": names if groups else None}, name)
    return make_dataset("copies", [f"c{k}" for k in range(n_classes)], parts)


def result(folder: Path, data: Dataset, head: Head, protocol: Any, **changes: Any) -> dict[str, Any]:
    request = Run(
        IdentityBackbone(), data, protocol, head, FeatureStore(folder / "cache"), folder / "runs", device="cpu",
        features={"progress": False}, **changes,
    )  # fmt: skip
    return json.loads((run(request) / "result.json").read_text())


def accuracy(found: dict[str, Any]) -> float:
    return float(found["metrics"]["top1"]["value"])


HEADS = [RidgeProbe(), LinearProbe(), LinearSGD(lrs=(0.001, 0.01, 1.0), epochs=20)]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_a_choice_among_groups_is_no_worse_on_new_rows_than_one_among_copies(
    tmp_path: Path, head: Head, fraction: float
) -> None:
    found = [
        [result(tmp_path, dataset(seed, groups=groups), clone(head), Full(fraction), seed=seed) for seed in range(3)]
        for groups in (False, True)
    ]
    plain, grouped = (np.mean([accuracy(one) for one in runs]) for runs in found)
    copies, judged = (
        np.mean([max(c["score"] for c in one["selection"]["searched"]) for one in runs]) for runs in found
    )
    assert copies > 0.98  # they are known by heart
    assert abs(judged - grouped) < (copies - plain) / 2
    assert grouped > plain - 0.005
    if isinstance(head, RidgeProbe):
        assert grouped > plain + 0.05


@pytest.mark.parametrize("head", HEADS[:2], ids=lambda head: type(head).__name__)
def test_a_holdout_of_groups_tells_what_new_rows_will_say(tmp_path: Path, head: Head) -> None:
    told, true = [], []
    for seed in range(4):
        data = dataset(seed)
        told.append(accuracy(result(tmp_path, data, clone(head), Holdout(), seed=seed)))
        true.append(accuracy(result(tmp_path, data, clone(head), Full(), seed=seed)))
        assert accuracy(result(tmp_path, dataset(seed, groups=False), clone(head), Holdout(), seed=seed)) > 0.95
    assert np.mean(told) < np.mean(true) + 0.03


@pytest.mark.parametrize("protocol", [Full(), Full(0.0), Holdout(), FewShot(3), FewShot(12)], ids=repr)
def test_the_record_says_that_no_group_was_divided(tmp_path: Path, protocol: Any) -> None:
    found = result(tmp_path, dataset(), LinearProbe(Cs=[0.01, 1.0]), protocol)
    assert found["divided_groups"] == 0
    assert found["selection"]["on"] in ("validation", "5 folds of the training rows")
    assert "groups" in found["dataset"]
    assert result(tmp_path, dataset(groups=False), NearestClassMean(), protocol)["divided_groups"] is None


def test_groups_that_train_and_test_share_are_told_under_the_table(tmp_path: Path) -> None:
    assert result(tmp_path, dataset(shared=True), NearestClassMean(), Full())["divided_groups"] == N_GROUPS
    printed = " ".join(write_sweep_table(tmp_path / "runs").split())
    assert f"Groups in more than one of training, validation and test: {N_GROUPS} of copies." in printed


def test_other_groups_are_another_run(tmp_path: Path) -> None:
    one, other = dataset(), dataset()
    other.partitions["train"].groups = np.arange(N_GROUPS * COPIES)
    runs = [result(tmp_path, data, NearestClassMean(), Full())["run"]["digest"] for data in (one, other)]
    assert runs[0] != runs[1]


@pytest.mark.parametrize("place", ["dataset", "test_on", "ood"])
def test_other_groups_of_test_rows_are_another_run(place: str, tmp_path: Path) -> None:
    """Intervals, worst groups and errors by group follow from them, though no feature and no draw does."""
    runs = []
    for size in (1, 2):
        sets = {name: dataset(seed) for seed, name in enumerate(("dataset", "test_on", "ood"))}
        sets[place].partitions["test"].groups = np.arange(400) // size
        test_on, far = sets["test_on"] if place == "test_on" else None, replace(sets["ood"], class_names=("d0", "d1"))
        found = result(tmp_path, sets["dataset"], NearestClassMean(), Full(), test_on=test_on, ood={"far": far})
        runs.append(found["run"]["digest"])
    assert runs[0] != runs[1]


def test_groups_that_test_rows_share_by_name_are_another_run(tmp_path: Path) -> None:
    runs = []
    for name in ("test", "train"):
        data = dataset()
        data.partitions["test"].groups = np.array([f"{name} {row % N_GROUPS}" for row in range(400)])
        runs.append(result(tmp_path, data, NearestClassMean(), Full(0.0))["metrics"])
    assert ["worst_group" in found for found in runs] == [False, True]


def test_rows_that_were_written_without_groups_are_refused_with_them(tmp_path: Path) -> None:
    result(tmp_path, dataset(groups=False), NearestClassMean(), Full(), save_rows=True)
    (rows,) = (tmp_path / "runs").glob("*/rows.json")
    with pytest.raises(InputError, match=r"protocol recorded divides \d+ of 50 groups of dataset copies"):
        result(tmp_path, dataset(), NearestClassMean(), Recorded(str(rows)))


def test_rows_that_were_written_with_groups_are_read_again(tmp_path: Path) -> None:
    first = result(tmp_path, dataset(), LinearProbe(Cs=[0.01, 1.0]), Full(0.0), save_rows=True)
    (rows,) = (tmp_path / "runs").glob("*/rows.json")
    again = result(tmp_path, dataset(), LinearProbe(Cs=[0.01, 1.0]), Recorded(str(rows)))
    assert again["metrics"] == first["metrics"]
    assert again["selection"] == first["selection"]


def test_vtab1k_refuses_groups_by_name(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    X, y, group = draw(random, 300, 4)
    part = know(ArrayPartition(X, y, [str(i) for i in range(1200)]), {"groups": group}, "train")
    data = make_dataset("many", ["a", "b"], {"train": part, "test": dataset().partitions["test"]})
    with pytest.raises(InputError, match=r"protocol vtab1k divides .* such as rows"):
        result(tmp_path, data, NearestClassMean(), Vtab1k())


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_with_one_group_per_class_the_middle_candidate_is_taken(head: Head) -> None:
    X, y, _ = draw(np.random.default_rng(0), 4, 10)
    fitted = fit(clone(head), (X, y), (None, y[:0]), np.full(len(y), -1), {})
    assert fitted.selection_["on"] == "nothing, for want of rows"
    (chosen,) = fitted.selection_["chosen"].values()
    middle = {RidgeProbe: 1.0, LinearProbe: np.logspace(-4, 4, 10)[4], LinearSGD: 0.01}[type(head)]
    assert chosen == pytest.approx(middle)


def test_a_validation_partition_is_taken_as_it_is_and_what_it_shares_is_counted(tmp_path: Path) -> None:
    data = dataset()
    data.partitions["validation"] = know(dataset().partitions["train"], {}, "validation")  # type: ignore[index]
    found = result(tmp_path, data, LinearProbe(Cs=[0.01, 1.0]), Official())
    assert (found["selection"]["on"], found["divided_groups"]) == ("validation", N_GROUPS)


def test_out_of_fold_logits_know_nothing_of_their_group() -> None:
    X, y, groups = draw(np.random.default_rng(0), N_GROUPS, COPIES)
    for head in HEADS[:2]:
        told, fair = (out_of_fold_logits(clone(head), X, y, groups=g).argmax(axis=1) == y for g in (None, groups))
        assert told.mean() > 0.95
        assert fair.mean() < 0.9
    with pytest.raises(InputError, match=r"20 training rows belong to groups that cannot be left out.*teacher_folds"):
        out_of_fold_logits(HEADS[1], X[:20], y[:20] * 0 + np.arange(20) // 10, groups=np.arange(20) // 10)


def test_a_student_learns_from_a_teacher_that_never_saw_the_group(tmp_path: Path) -> None:
    student = DualHeadKD(epochs=(2,), learning_rates=(0.01,))
    teacher = Teacher(IdentityBackbone(), RidgeProbe())
    assert result(tmp_path, dataset(), student, Full(), teacher=teacher)["divided_groups"] == 0


@pytest.mark.parametrize("protocol", [Full(), Full(0.0)], ids=repr)
def test_calibration_holds_out_whole_groups(tmp_path: Path, protocol: Any) -> None:
    level, head = 0.6, LinearProbe(Cs=[100.0])
    found = {
        groups: result(tmp_path, dataset(groups=groups), head, protocol, calibrate=True, conformal_level=level)
        for groups in (False, True)
    }
    assert found[True]["metrics"]["coverage"]["value"] == pytest.approx(level, abs=0.25)
    # Copies of training rows look easy: the temperature of held-out copies lets probabilities stand that are too sure.
    assert found[True]["calibration"]["temperature"] > found[False]["calibration"]["temperature"]


def test_heads_that_are_refitted_task_by_task_choose_among_groups(tmp_path: Path) -> None:
    plain, grouped = (
        result(tmp_path, dataset(groups=groups, n_classes=4), LinearProbe(), ClassIncremental(2))
        for groups in (False, True)
    )
    assert plain["selection"]["on"] == "a tenth of the training rows"
    assert grouped["selection"]["on"] == "5 folds of the training rows"
    assert accuracy(grouped) > accuracy(plain) - 0.02


def test_a_head_that_chooses_as_it_streams_is_refused_and_the_way_out_is_one(tmp_path: Path) -> None:
    data = dataset(n_classes=4)
    text = r"head ridge chooses on the rows that it streams, where .* such as head.alphas=\[1.0\], or take protocol"
    with pytest.raises(InputError, match=text):
        result(tmp_path, data, RidgeProbe(), ClassIncremental(2))
    result(tmp_path, data, RidgeProbe(alphas=[1.0]), ClassIncremental(2))
    result(tmp_path, dataset(n_classes=4, groups=False), RidgeProbe(), ClassIncremental(2))
