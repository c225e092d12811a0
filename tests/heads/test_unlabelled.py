import numpy as np
import pytest
import torch
from first_rows import first_rows
from oracles import files_of
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

from probe.backbones.shared.views import MultiView
from probe.backbones.tiny import TinyBackbone
from probe.core.errors import DoesNotFit, InputError
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.unlabelled import Unlabelled
from probe.leaderboard.index import read_folders
from probe.leaderboard.table import build_table
from probe.metrics.shared import spectra
from probe.protocols.full import Full
from probe.results.reader import read_result


@pytest.mark.parametrize("path", files_of("unlabelled"), ids=lambda path: path and path.stem)
def test_measures_equal_the_released_ones(path):
    data = load_file(path)
    X = data["input.features"].astype(np.float64)
    n, n_views = data["hyper.samples_views"]
    moments = spectra.Moments.of([X])
    raw = torch.linalg.eigvalsh(moments.covariance + torch.outer(moments.mean, moments.mean)).flip(0).clamp(min=0)
    values = torch.linalg.eigvalsh(moments.covariance).flip(0).clamp(min=0)
    first, last = (int(end) for end in data["hyper.alpha_fit_range_zero_based"])
    found = {
        "output.stable_pretraining.rankme": spectra.rank_me(raw, 1e-5),
        "ref64.rankme_uncentred_eps1e-7": spectra.rank_me(raw),
        "output.reptrix.rankme": spectra.entropy_rank(values),
        "output.reptrix.alpha": spectra.power_law(values, first, last),
        "ref64.nesum_covariance": spectra.nesum(values),
        "output.stable_pretraining.lidar": spectra.lidar(X.reshape(n, n_views, -1))[0],
        "ref64.twonn_mle": spectra.two_nn(X)[0],
    }
    for name, value in found.items():
        assert float(value) == pytest.approx(float(data[name]), abs=1e-7), name
    measured = Unlabelled().fit(X, np.zeros(len(X))).measure(X, np.zeros(len(X)))["features"].statistics
    assert measured["rankme"][0] == pytest.approx(float(data["ref64.rankme_uncentred_eps1e-7"]), abs=1e-7)
    assert measured["rankme_of_covariance"][0] == pytest.approx(float(data["output.reptrix.rankme"]), abs=1e-7)


class Counted(np.memmap):
    """A file that says how many of its rows were read."""

    n_read = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        if isinstance(key, slice):
            Counted.n_read += len(found)
        return found


def test_rows_are_read_twice_and_never_all_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("probe.core.arrays.CHUNK_BYTES", 4 * 16 * 100)
    X = np.random.default_rng(0).standard_normal((1000, 16)).astype(np.float32)
    X.tofile(tmp_path / "x")
    stored = Counted(tmp_path / "x", dtype=np.float32, mode="r", shape=X.shape)
    y, head = np.zeros(1000), Unlabelled(n_sample=200)
    expected = head.fit(X, y).measure(X, y)["features"].statistics
    Counted.n_read = 0
    found = head.fit(stored, y).measure(stored, y)["features"].statistics
    assert Counted.n_read == 2000
    for name, (value, slopes) in found.items():
        assert value == pytest.approx(expected[name][0], rel=1e-9)
        np.testing.assert_allclose(slopes, expected[name][1], atol=1e-9)
        assert slopes.shape == (1000,)


def test_labels_and_training_rows_take_no_part():
    X, y = load_digits(return_X_y=True)
    one = Unlabelled().fit(X[:50], y[:50]).measure(X[50:400], y[50:400])["features"].statistics
    two = (
        Unlabelled().fit(np.full((9, 64), 1e30), np.arange(9)).measure(X[50:400], 1 - y[50:400])["features"].statistics
    )
    assert {n: v for n, (v, _) in one.items()} == {n: v for n, (v, _) in two.items()}


def request(folder, backbone, **more):
    settings = {"protocol": Full(), "head": Unlabelled(n_sample=300), "device": "cpu"} | more
    return Run(
        backbone,
        first_rows(load("digits"), 60),
        store=FeatureStore(folder / "cache"),
        folder=folder / "runs",
        **settings,
    )


def test_runs_stand_in_the_table_and_views_add_what_they_tell(tmp_path):
    plain = read_result(run(request(tmp_path, TinyBackbone(pretrained=False))))["metrics"]
    assert set(plain) == {"rankme", "rankme_of_covariance", "alpha_req", "nesum", "intrinsic_dimension", "uniformity"}
    for facts in plain.values():
        assert facts["low"] < facts["value"] < facts["high"]
    views = read_result(run(request(tmp_path, MultiView(TinyBackbone(pretrained=False), 2, "flips"))))["metrics"]
    assert set(views) == set(plain) | {"lidar", "alignment"}
    records = read_folders([tmp_path / "runs"])
    assert not records.problems
    table = build_table(records, metric="alpha_req")
    assert table.metric == "alpha_req"
    assert build_table(records).metric == "rankme"


def test_what_wants_predictions_and_too_few_rows_are_refused(tmp_path):
    with pytest.raises(DoesNotFit, match="head unlabelled predicts nothing, calibrate=true wants predictions"):
        run(request(tmp_path, TinyBackbone(pretrained=False), calibrate=True))
    X, y = load_digits(return_X_y=True)
    with pytest.raises(InputError, match="2 test rows have no spectrum, expected at least 3"):
        Unlabelled().fit(X, y).measure(X[:2], y[:2])
    with pytest.raises(InputError, match="head unlabelled measures features and predicts nothing"):
        Unlabelled().fit(X, y).predict(X)
    with pytest.raises(InputError, match="n_sample is 2, expected a whole number from 3"):
        Unlabelled(2).fit(X, y)
