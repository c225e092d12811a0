"""Neural collapse in the record of a run that asks for it."""

from __future__ import annotations

import numpy as np
import pytest

import probe
from probe.core.errors import DoesNotFit
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = (rng.normal(size=(90, 4)) + 6 * np.eye(3, 4)[y]).astype(np.float32)
    parts = {"train": (X, y), "test": (X[::-1] + 0.1, y[::-1].copy())}
    given = {"dataset": (parts, {"name": "three"}), "runs": tmp_path, "cache": tmp_path / "cache", "quiet": True}
    return lambda head, **more: probe.run(head=head, **given, **more).record


def test_measures_of_features_and_head_stand_beside_the_metrics(run):
    found = run("lda", neural_collapse=True)["collapse"]
    assert set(found) == {"train", "test"}
    names = {"nc1", "nc2_means", "nc2_length_variation", "nc2_mean_angle_off", "nc2_weights", "nc3", "nc3_difference"}
    assert set(found["train"]) == names | {"nc4"}
    assert found["train"]["nc1"] < 1
    assert "collapse" not in run("lda")


def test_the_nearest_mean_agrees_with_itself_and_has_no_weights(run):
    found = run("ncm", neural_collapse=True)["collapse"]
    assert found["train"]["nc4"] == 0
    assert "nc3" not in found["train"]
    assert found["left_out"].startswith("nc2_weights, nc3, nc3_difference: the head is no linear function")


def test_the_page_holds_them_beside_the_confusions(run, tmp_path):
    found = run("lda", neural_collapse=True)["collapse"]
    run("ncm")
    records = read_folders([tmp_path])
    runs = page_data(build_table(records), records.frame)["runs"]
    told = [one["collapse"] for one in runs]
    assert sum(one is None for one in told) == 1
    (shown,) = (one for one in told if one)
    assert shown["train"]["nc1"] == pytest.approx(found["train"]["nc1"], rel=1e-5)
    assert set(shown["test"]) == set(found["test"])


def test_rows_without_one_class_each_are_refused(tmp_path):
    given = {"runs": tmp_path, "cache": tmp_path / "cache", "quiet": True}
    with pytest.raises(DoesNotFit, match="neural_collapse=true measures class means of one vector per row"):
        probe.run(dataset="diabetes", head="ridge", neural_collapse=True, **given)
