"""Whole runs of the protocols that change more than the rows: what the run folder then says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extraction_toys import ToyBackbone, toy_dataset

from probe.backbones.identity import IdentityBackbone
from probe.core.base import Dataset, SplitProtocol
from probe.core.errors import DoesNotFit, InputError
from probe.datasets.gaussians import load as gaussians
from probe.datasets.sklearn import load
from probe.experiment.choosing import fit_on_folds
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.language_guided import LanguageGuided
from probe.heads.linear import LinearProbe
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.head import Head
from probe.leaderboard.index import read_folders
from probe.leaderboard.table import build_table
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.protocols.label_noise import LabelNoise
from probe.protocols.long_tail import LongTail
from probe.protocols.recorded import Recorded
from probe.protocols.shared.rows_file import write_rows


@pytest.fixture(scope="module")
def iris() -> Dataset:
    return load(name="iris")


@pytest.fixture
def result(iris: Dataset, tmp_path: Path) -> Any:
    def make(protocol: SplitProtocol, head: Head, seed: int = 0) -> dict[str, Any]:
        store = FeatureStore(tmp_path / "cache")
        folder = run(Run(IdentityBackbone(), iris, protocol, head, store, tmp_path / "runs", seed=seed, device="cpu"))
        return json.loads((folder / "result.json").read_text())

    return make


def test_few_shots_are_chosen_on_folds_and_the_result_says_so(result):
    found = result(FewShot(3), LinearProbe(Cs=[0.1, 1.0]))
    assert found["selection"]["on"] == "5 folds of the training rows"
    assert (found["protocol"]["n_train"], found["protocol"]["n_validation"]) == (9, 0)
    assert found["labels"]["protocol"] == "few_shot(k=3)"


def test_label_noise_reaches_the_head_and_not_the_test_labels(result):
    clean, noisy = result(Full(), NearestClassMean()), result(LabelNoise(Full(), 0.5), NearestClassMean())
    assert noisy["labels"]["protocol"] == "label_noise(protocol=full,rate=0.5)"
    assert noisy["protocol"]["parameters"]["protocol"] == {"name": "full", "validation_fraction": 0.2}
    assert noisy["metrics"]["log_loss"]["value"] > clean["metrics"]["log_loss"]["value"] + 0.1
    assert noisy["metrics"]["top1"]["value"] > 0.5  # half the labels are wrong, the majority of each class is not
    assert noisy["dataset"]["test_rows"] == clean["dataset"]["test_rows"]


def test_noise_makes_another_run_though_the_rows_are_the_same(result):
    digests = {result(p, NearestClassMean())["run"]["digest"] for p in (Full(), LabelNoise(Full(), 0.1))}
    assert len(digests) == 2


def test_long_tail_trains_on_fewer_rows(result):
    found = result(LongTail(Full(), 10.0), NearestClassMean())
    assert found["protocol"]["n_train"] < 45
    assert found["protocol"]["n_test"] == result(Full(), NearestClassMean())["protocol"]["n_test"]


def ranked(folder: Path, metric: str) -> dict[str, float]:
    cells = build_table(read_folders([folder]), metric).cells
    return dict(zip(cells["head"], cells["value"], strict=True))


def test_class_sizes_that_differ_are_told_apart_and_ranked(tmp_path):
    data, store = gaussians(n_classes=4, n_features=8, distance=2.0, n_train=1200), FeatureStore(tmp_path / "cache")
    for head in (NearestClassMean(), NaiveBayes()):
        protocol = LongTail(Full(), 50.0)
        folder = run(Run(IdentityBackbone(), data, protocol, head, store, tmp_path / "runs", device="cpu"))
        found = {k: v["value"] for k, v in json.loads((folder / "result.json").read_text())["metrics"].items()}
        # Classes of 300, 81, 22 and 6 rows, those that validate included.
        assert np.average([found[g] for g in GROUPS], weights=[1, 2, 1]) == pytest.approx(found["mean_per_class"])
        for group in GROUPS:
            assert ranked(tmp_path / "runs", group)[folder.name.split("-")[3]] == pytest.approx(found[group])
    assert ranked(tmp_path / "runs", "few_shot")["ncm"] > ranked(tmp_path / "runs", "few_shot")["naive_bayes"]


GROUPS = ("many_shot", "medium_shot", "few_shot")


@pytest.mark.parametrize("metric", ["a_last", "a_avg", "forgetting"])
def test_numbers_over_tasks_can_be_ranked(result, tmp_path, metric):
    found = {head.__class__.__name__: result(ClassIncremental(3), head) for head in (NearestClassMean(), NaiveBayes())}
    expected = {r["labels"]["head"]: r["metrics"][metric]["value"] for r in found.values()}
    assert ranked(tmp_path / "runs", metric) == pytest.approx(expected)
    if metric == "forgetting":
        assert build_table(read_folders([tmp_path / "runs"]), metric).cells["low"].min() < 0


def test_tasks_leave_their_matrix_and_a_last_is_top1(result):
    found = result(ClassIncremental(3), NearestClassMean())
    matrix = found["tasks"]["accuracy_matrix"]
    assert [[a is not None for a in row] for row in matrix] == np.tri(3).astype(bool).tolist()
    assert found["metrics"]["a_last"]["value"] == found["metrics"]["top1"]["value"]
    assert found["tasks"]["streamed"]
    assert found["labels"]["head"] == "ncm"


@pytest.mark.parametrize(
    "head",
    [NearestClassMean(), LanguageGuided(attributes=np.eye(3).tolist(), alphas=[1.0])],
    ids=["ncm", "language_guided"],
)
def test_where_the_task_is_known_rows_are_told_from_those_of_their_task_alone(result, head):
    among_all, among_own = (result(ClassIncremental(2, task_known=known), head) for known in (False, True))
    assert among_own["metrics"]["top1"] == among_all["metrics"]["top1"]
    assert among_own["metrics"]["a_last"]["value"] > among_all["metrics"]["a_last"]["value"]
    alone = among_own["tasks"]["accuracy_matrix"]
    assert alone[1][1] == 1.0  # the task of one class
    assert alone[0][0] == among_all["tasks"]["accuracy_matrix"][0][0]
    # With one covariance for all, or one ridge, later classes move no boundary between those of the first task by much.
    assert abs(among_own["metrics"]["forgetting"]["value"]) < 0.05


def test_ncm_ends_at_the_same_accuracy_whatever_the_order_of_the_classes(result):
    found = [result(ClassIncremental(3), NearestClassMean(), seed) for seed in range(4)]
    assert len({str(f["tasks"]["classes"]) for f in found}) > 1
    assert len({f["metrics"]["a_last"]["value"] for f in found}) == 1


def test_head_that_does_not_stream_is_marked_as_joint(result):
    found = result(ClassIncremental(2), LinearProbe(Cs=[1.0]))
    assert not found["tasks"]["streamed"]
    assert found["labels"]["head"] == "linear(Cs=[1.0]) (joint)"
    assert found["metrics"]["forgetting"]["value"] <= 1


def test_recorded_rows_run_and_the_result_names_their_file(result, iris, tmp_path):
    path = tmp_path / "rows.json"
    write_rows(path, iris, "few_shot", 0, FewShot(3).split(iris, 0))
    found = result(Recorded(str(path)), NearestClassMean())
    assert found["protocol"]["parameters"] == {"path": str(path)}
    assert found["metrics"] == result(FewShot(3), NearestClassMean())["metrics"]


def test_a_run_leaves_its_rows_and_others_follow_them(iris, tmp_path):
    def made(protocol, **changes):
        store = FeatureStore(tmp_path / "cache")
        return run(
            Run(
                IdentityBackbone(),
                iris,
                protocol,
                NearestClassMean(),
                store,
                tmp_path / "runs",
                device="cpu",
                **changes,
            )
        )

    first = made(LabelNoise(FewShot(10), 0.3), seed=4, save_rows=True)
    assert not (made(FewShot(10), seed=4) / "rows.json").exists()
    again = made(Recorded(str(first / "rows.json")))
    one, other = (json.loads((folder / "result.json").read_text()) for folder in (first, again))
    assert one["metrics"] == other["metrics"]
    assert one["protocol"]["rows"] == other["protocol"]["rows"]


class TwoKinds(LinearProbe):
    consumes = ("pooled", "tokens")


def test_head_of_several_kinds_that_does_not_stream_is_refused(iris, tmp_path):
    backbone = IdentityBackbone()
    backbone.kinds = ("pooled", "tokens")
    request = Run(backbone, iris, ClassIncremental(2), TwoKinds(), FeatureStore(tmp_path), tmp_path)
    with pytest.raises(DoesNotFit, match="consumes pooled, tokens and does not stream, protocol class_incremental"):
        run(request)


def test_tasks_within_another_protocol_are_refused(result):
    with pytest.raises(InputError, match="long_tail changes rows that come at once, protocol class_incremental gives"):
        result(LongTail(ClassIncremental(2), 10.0), NearestClassMean())


def test_ties_over_folds_go_to_the_middle_of_the_grid():
    y = np.tile(np.arange(3), 4)
    head = fit_on_folds(LinearProbe(Cs=[1.0, 3.0, 10.0, 30.0, 100.0]), 9 * np.eye(3)[y], y, np.arange(12) % 5, {})
    assert {entry["score"] for entry in head.selection_["searched"]} == {1.0}
    assert head.selection_["chosen"] == {"C": 10.0}


def test_choice_on_folds_is_that_of_a_loop_over_the_folds():
    rng = np.random.default_rng(0)
    y, folds, Cs = np.tile(np.arange(3), 5), np.repeat(np.arange(5), 3), [1e-3, 1e-1, 10.0]
    X = rng.normal(size=(15, 5)) + np.eye(3, 5)[y]
    scores = [
        np.mean(
            [
                LinearProbe(Cs=[C], tol=1e-12).fit(X[folds != f], y[folds != f]).score(X[folds == f], y[folds == f])
                for f in range(5)
            ]
        )
        for C in Cs
    ]
    head = fit_on_folds(LinearProbe(Cs=Cs, tol=1e-12), X, y, folds, {})
    assert [entry["score"] for entry in head.selection_["searched"]] == pytest.approx(scores)
    assert scores[Cs.index(head.selection_["chosen"]["C"])] == max(scores)


def test_a_head_that_does_not_say_where_its_candidates_are_listed_gets_a_sentence():
    class Silent(LinearProbe):
        searches = {}  # noqa: RUF012

    y, folds = np.tile(np.arange(3), 5), np.repeat(np.arange(5), 3)
    X = np.random.default_rng(0).normal(size=(15, 5)) + np.eye(3, 5)[y]
    with pytest.raises(InputError, match=r"Silent chose C and does not say which parameter lists .* searches = {'C': "):
        fit_on_folds(Silent(Cs=[0.1, 1.0]), X, y, folds, {})


def test_a_task_without_rows_is_refused_by_name(tmp_path: Path) -> None:
    whole = toy_dataset(30)
    labels = np.asarray(whole.partitions["train"].labels)
    data = toy_dataset(30, broken=tuple(np.flatnonzero(labels == 2).tolist()))
    request = Run(
        ToyBackbone(), data, ClassIncremental(3), NearestClassMean(), FeatureStore(tmp_path / "cache"),
        tmp_path / "runs", device="cpu", features={"on_error": "skip"},
    )  # fmt: skip
    with pytest.raises(InputError, match="task c has no training row left once those that cannot be decoded are skip"):
        run(request)
