from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from places import CONF
from sklearn.base import clone

from probe.backbones.identity import IdentityBackbone
from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.datasets.shared.partitions import ArrayPartition
from probe.datasets.shared.row_facts import know
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.protocols.domain_incremental import DomainIncremental


def in_sessions(train, test, n=60, shift=4.0) -> Dataset:
    """Three classes; each session moves all rows by another offset."""
    rng, partitions = np.random.default_rng(0), {}
    moved = {name: shift * rng.normal(size=6) for name in sorted({*train, *test})}
    for part, names in (("train", train), ("test", test)):
        sessions = np.repeat(names, n)
        labels = np.tile(np.arange(3), len(sessions) // 3)
        rows = rng.normal(size=(len(labels), 6)) + 3 * np.eye(3, 6)[labels] + [moved[name] for name in sessions]
        partition = ArrayPartition(rows.astype(np.float32), labels, [str(i) for i in range(len(labels))])
        partitions[part] = know(partition, {"sessions": sessions}, part)
    return Dataset("rooms", ("a", "b", "c"), partitions)


ROOMS = ("s1", "s2", "s10")


@pytest.fixture
def result(tmp_path: Path):
    def make(dataset, head, protocol=None, seed=0, **changes):
        store = FeatureStore(tmp_path / "cache")
        request = Run(
            IdentityBackbone(), dataset, protocol or DomainIncremental(), head, store, tmp_path / "runs", seed=seed,
            device="cpu", **changes,
        )  # fmt: skip
        return json.loads((run(request) / "result.json").read_text())

    return make


def test_every_row_comes_once_with_its_session_in_the_order_of_the_names():
    dataset = in_sessions(ROOMS, ROOMS)
    tasks = DomainIncremental().tasks(dataset, 0)
    assert [task.name for task in tasks] == ["s1", "s2", "s10"]
    assert [task.classes.tolist() for task in tasks] == [[0, 1, 2]] * 3
    assert sorted(np.concatenate([task.rows.indices for task in tasks])) == list(range(180))
    assert set(dataset.partitions["train"].sessions[tasks[2].rows.indices]) == {"s10"}


def test_shuffled_order_is_frozen_and_drawn_by_the_seed():
    dataset = in_sessions([f"s{i}" for i in range(6)], ["s0"], shift=0.0)
    orders = [[t.name for t in DomainIncremental("shuffled").tasks(dataset, seed)] for seed in range(4)]
    assert len(set(map(tuple, orders))) > 1
    assert all(sorted(order) == [f"s{i}" for i in range(6)] for order in orders)
    assert [t.name for t in DomainIncremental("shuffled").tasks(dataset, 1)] == orders[1]


def test_test_rows_belong_to_their_session_or_to_none():
    dataset = in_sessions(ROOMS, ("s2", "s7"), n=3)
    test = dataset.partitions["test"]
    found = DomainIncremental().tasks_of_test_rows(dataset, test, test.labels[[0, 5]], np.array([0, 5]), 0)
    assert found.tolist() == [1, -1]


def test_matrix_a_last_a_avg_and_forgetting_are_those_of_the_sessions(result):
    found = result(in_sessions(ROOMS, ROOMS), NearestClassMean())
    matrix = found["tasks"]["accuracy_matrix"]
    assert found["tasks"]["names"] == list(ROOMS)
    assert [[a is not None for a in row] for row in matrix] == np.tri(3).astype(bool).tolist()
    metrics = {name: m["value"] for name, m in found["metrics"].items()}
    assert metrics["a_last"] == metrics["top1"] == pytest.approx(np.mean(matrix[2]))  # sessions of one size
    assert metrics["a_avg"] == pytest.approx(np.mean([np.mean(matrix[t][: t + 1]) for t in range(3)]))
    best = [max(row[j] for row in matrix[j:2]) for j in range(2)]
    assert metrics["forgetting"] == pytest.approx(np.mean([best[j] - matrix[2][j] for j in range(2)]))
    assert metrics["forgetting"] > 0.01  # the offsets of later sessions move the means


def test_a_head_that_does_not_stream_is_fitted_on_all_sessions_so_far(result):
    found = result(in_sessions(ROOMS, ROOMS), LinearProbe(Cs=[1.0]))
    assert found["labels"]["head"].endswith("(joint)")
    assert not found["tasks"]["streamed"]


def test_sessions_that_never_train_count_after_every_session(result):
    found = result(in_sessions(ROOMS, ("s7",)), NearestClassMean())
    assert "forgetting" not in found["metrics"]
    assert all(a is None for row in found["tasks"]["accuracy_matrix"] for a in row)
    assert found["metrics"]["a_avg"]["value"] == pytest.approx(np.mean(found["tasks"]["accuracies"]))


def test_other_sessions_are_another_run_of_the_same_features(result):
    one, other = in_sessions(ROOMS, ROOMS, shift=0.0), in_sessions(ROOMS, ROOMS, shift=0.0)
    other.partitions["train"].sessions = np.roll(other.partitions["train"].sessions, 60)
    first, second = result(one, NearestClassMean()), result(other, NearestClassMean())
    assert first["features"] == second["features"]
    assert first["run"]["digest"] != second["run"]["digest"]


def test_datasets_without_sessions_are_refused(make_dataset):
    with pytest.raises(InputError, match=r"dataset rows names no sessions of its training rows, .*session_column"):
        DomainIncremental().split(make_dataset([3, 3]), 0)
    with pytest.raises(InputError, match=r"has 1 session \(s1\) in its training rows, expected at least 2: take"):
        DomainIncremental().split(in_sessions(("s1",), ("s1",)), 0)
    with pytest.raises(InputError, match=r"order is 'random', expected named or shuffled: set protocol.order"):
        DomainIncremental("random")


def streaming_heads():
    """A small one of every head that streams classes by rows alone."""
    found = []
    for path in sorted((CONF / "head").glob("*.yaml")):
        told = OmegaConf.load(path)
        if "_target_" not in told:
            continue
        head = instantiate(told, _convert_="all")
        described = "attributes" in head.get_params(deep=False)
        if not head.streams or "one_class" not in head.fits or head.consumes != ("pooled",):
            continue
        if head.reads_texts and not described:
            continue
        small = {"n_projected": 60, "alphas": [1.0], "ks": [3], "device": "cpu", "attributes": np.eye(3).tolist()}
        given = {n: v for n, v in small.items() if n in head.get_params(deep=False)}
        found.append(pytest.param(head.set_params(**given), id=path.stem))
    return found


@pytest.mark.parametrize("head", streaming_heads())
def test_every_head_that_streams_learns_session_by_session(head, result):
    dataset = in_sessions(ROOMS, ROOMS, n=30, shift=0.5)
    found = result(dataset, head)
    assert found["tasks"]["streamed"]
    assert found["tasks"]["names"] == list(ROOMS)
    assert found["metrics"]["a_last"]["value"] > 0.6
    assert -1 <= found["metrics"]["backward_transfer"]["value"] <= 1


@pytest.mark.parametrize("head", streaming_heads())
def test_a_streamed_head_is_the_joint_fit_bit_for_bit_where_sums_are_exact(head):
    """Sums of small whole numbers are, in any order; what is computed from equal sums is equal."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = (rng.integers(-4, 5, size=(90, 6)) + 3 * np.eye(3, 6)[y]).astype(np.float16)
    by_class = np.argsort(y, kind="stable")
    if hasattr(head, "n_projected"):  # a projection is rounded
        head = clone(head).set_params(n_projected=0)
    joint, streamed = clone(head).fit(X[by_class], y[by_class]), clone(head)
    for k in range(3):
        streamed.partial_fit(X[y == k], y[y == k], classes=[0, 1, 2])
    np.testing.assert_array_equal(streamed.logits(X), joint.logits(X))
