"""Temperature scaling and conformal sets as results of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.identity import IdentityBackbone
from probe.core.base import Dataset, SplitProtocol
from probe.core.errors import InputError
from probe.datasets.gaussians import load as gaussians
from probe.datasets.sklearn import load
from probe.experiment.calibration import calibrate, hold_out
from probe.experiment.checks import check_calibrate
from probe.experiment.reading import Part, ReadRows
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.linear import LinearProbe
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.heads.sklearn import SklearnHead
from probe.leaderboard.index import read_folders
from probe.leaderboard.table import build_table
from probe.metrics.conformal import SetScores
from probe.metrics.evaluate import evaluate, measure
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.protocols.label_noise import LabelNoise
from probe.results.comparing import compare
from probe.results.reader import read_predictions, read_result
from probe.results.schema import CALIBRATED, HEAD


@pytest.fixture(scope="module")
def wine() -> Dataset:
    return load(name="wine")


@pytest.fixture
def result(wine: Dataset, tmp_path: Path) -> Any:
    def make(head: Head, protocol: SplitProtocol | None = None, **changes: Any) -> dict[str, Any]:
        store = FeatureStore(tmp_path / "cache")
        request = Run(
            IdentityBackbone(), wine, protocol or Full(), head, store, tmp_path / "runs", device="cpu", **changes
        )
        return json.loads((run(request) / "result.json").read_text())

    return make


def draw(n: int, rng: np.random.Generator, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    y = rng.permutation(np.arange(n) % n_classes)
    return rng.normal(size=(n, 2 * n_classes)) + 1.5 * np.eye(n_classes, 2 * n_classes)[y], y


def rows(train, test, folds=None):
    """What a run reads: these rows, and none that validate."""
    train, test, nothing = (Part(X, y, np.arange(len(y))) for X, y in (train, test, (None, np.empty(0, np.int64))))
    return ReadRows({}, train, nothing, test, folds)


def test_plain_metrics_stay_and_the_others_are_added(result):
    plain, calibrated = result(NaiveBayes()), result(NaiveBayes(), calibrate=True)
    assert plain["run"]["digest"] != calibrated["run"]["digest"]
    assert {name: calibrated["metrics"][name] for name in plain["metrics"]} == plain["metrics"]
    assert {"coverage", "mean_set_size", "class_conditional_coverage", "scaled_log_loss", "scaled_ece"} <= set(
        calibrated["metrics"]
    )
    for metric in calibrated["metrics"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]
    assert "calibration" not in plain
    record = calibrated["calibration"]
    assert record["n_held_out"] == round(0.2 * calibrated["protocol"]["n_train"])
    assert (record["fraction"], record["level"]) == (0.2, 0.9)


@pytest.mark.parametrize("metric", ["coverage", "class_conditional_mean_set_size", "scaled_log_loss", "scaled_ece"])
def test_calibrated_numbers_can_be_ranked(result, tmp_path, metric):
    runs = [result(head, calibrate=True) for head in (NaiveBayes(), NearestClassMean())]
    cells = build_table(read_folders([tmp_path / "runs"]), metric).cells
    expected = {run["labels"]["head"]: run["metrics"][metric]["value"] for run in runs}
    assert dict(zip(cells["head"], cells["value"], strict=True)) == pytest.approx(expected)


def test_the_level_is_chosen_and_told_apart(result, tmp_path):
    low, high = (result(NearestClassMean(), calibrate=True, conformal_level=level) for level in (0.5, 0.9))
    assert [r["calibration"]["level"] for r in (low, high)] == [0.5, 0.9]
    assert low["run"]["digest"] != high["run"]["digest"]
    sizes = [r["metrics"]["mean_set_size"]["value"] for r in (low, high)]
    assert sizes[0] < sizes[1]
    with pytest.raises(InputError, match=r"level is 90, expected between 0 and 1: 0\.9 is usual"):
        result(NearestClassMean(), calibrate=True, conformal_level=90)
    with pytest.raises(InputError, match=r"sets at 99 % need 99: train on more rows, or set calibrate=false"):
        result(NearestClassMean(), calibrate=True, conformal_level=0.99)


def test_held_out_rows_are_a_fifth_of_each_class_and_no_validation_row(wine):
    split = Full().split(wine, 0)
    held = hold_out(wine, split, 0)
    labels = wine.partitions["train"].labels
    assert set(held) <= set(split.train.indices)
    assert np.abs(np.bincount(labels[held]) - 0.2 * np.bincount(labels[split.train.indices])).max() <= 1
    assert (hold_out(wine, split, 0) == held).all()
    assert set(hold_out(wine, Full().split(wine, 1), 1)) != set(held)


def test_labels_of_held_out_rows_reach_the_temperature_and_not_the_fit():
    rng = np.random.default_rng(0)
    (X, y), test, held = draw(100, rng), draw(200, rng), np.arange(100) < 30
    shuffled = np.where(held, (y + 1) % 3, y)
    found = [
        calibrate(LinearProbe(Cs=[1.0]), rows((X, labels), test), held, n_classes=3, seed=0) for labels in (y, shuffled)
    ]
    assert found[0].record["unscaled"] == found[1].record["unscaled"]
    assert found[0].record["temperature"] < found[1].record["temperature"]


def test_sets_hold_the_label_at_the_level_over_many_draws():
    rng, found = np.random.default_rng(0), []
    for _ in range(80):
        train, test, held = draw(250, rng), draw(400, rng), np.arange(250) < 50
        calibrated = calibrate(NearestClassMean(), rows(train, test), held, n_classes=3, seed=0)
        found.append(measure(calibrated.scores).metrics["coverage"].value)
    # Coverage of one draw follows Beta(46, 5): mean 0.902, deviation 0.041.
    error = math.sqrt(0.9 * 0.1 * (1 / 52 + 1 / 400) / 80)
    assert abs(np.mean(found) - 46 / 51) < 3 * error


def test_temperature_mends_an_overconfident_head():
    rng = np.random.default_rng(0)
    (X, y), (X_test, y_test) = draw(600, rng), draw(600, rng)
    X, X_test = np.tile(X, 8), np.tile(X_test, 8)  # naive Bayes counts every copy as news
    found = calibrate(
        NaiveBayes(), rows((X, y), (X_test, y_test)), np.arange(600) < 120, n_classes=3, seed=0
    )  # fmt: skip
    assert 4 < found.record["temperature"] < 16
    scaled = measure(found.scores).metrics
    assert scaled["scaled_log_loss"].value < 0.6 * found.record["unscaled"]["log_loss"]["value"]
    assert scaled["scaled_ece"].value < 0.5 * found.record["unscaled"]["ece"]["value"]


def test_choice_on_folds_goes_on_without_the_held_out_rows():
    rng = np.random.default_rng(0)
    X, y = draw(48, rng, n_classes=12)
    held = np.zeros(48, dtype=bool)
    held[[np.flatnonzero(y == k)[0] for k in range(9)]] = True
    folds = np.empty(48, dtype=np.int64)
    folds[np.argsort(y, kind="stable")] = np.arange(48) % 5
    found = calibrate(
        LinearProbe(Cs=[0.1, 1.0]), rows((X, y), draw(60, rng, 12), folds), held, n_classes=12, seed=0
    )  # fmt: skip
    assert found.record["chosen"]["C"] in (0.1, 1.0)
    assert found.record["n_held_out"] == 9


def test_noisy_labels_calibrate_too(result):
    found = result(NearestClassMean(), LabelNoise(Full(), 0.3), calibrate=True)
    # A third of the held-out labels is wrong, so the sets grow and the test labels are covered more often.
    assert found["metrics"]["coverage"]["value"] > 0.9


def test_another_dataset_can_be_covered(tmp_path):
    here, there = gaussians(n_classes=3, n_features=4), gaussians(n_classes=3, n_features=4, distance=1.0, seed=1)
    request = Run(
        IdentityBackbone(), here, Full(), NearestClassMean(), FeatureStore(tmp_path / "cache"), tmp_path / "runs",
        device="cpu", test_on=there, calibrate=True,
    )  # fmt: skip
    found = json.loads((run(request) / "result.json").read_text())["metrics"]
    assert found["coverage"]["high"] < 0.9  # nearer classes than those calibrated on


def test_too_few_rows_are_refused_before_anything_is_extracted(result, tmp_path):
    with pytest.raises(InputError, match=r"calibrate=true holds out 2 of 12 training rows, sets at 90 % need 9: train"):
        result(NearestClassMean(), FewShot(5), calibrate=True)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("protocol", "teacher", "why"),
    [
        (ClassIncremental(2), False, "class_incremental streams every row once"),
        (Full(), True, "a teacher has seen these too"),
    ],
)
def test_fits_that_cannot_leave_rows_out_are_refused(protocol, teacher, why):
    with pytest.raises(InputError, match=rf"{why}: set calibrate=false"):
        check_calibrate(protocol, teacher=teacher)


def kept(wine, tmp_path, head, **changes):
    """A run with `calibrate=true`: its record, the head that it kept, its test rows."""
    request = Run(
        IdentityBackbone(), wine, changes.pop("protocol", Full()), head, FeatureStore(tmp_path / "cache"),
        tmp_path / "runs", device="cpu", calibrate=True, **changes,
    )  # fmt: skip
    folder = run(request)
    test, rows = request.store.get(IdentityBackbone(), wine, "test", ["pooled"]), read_predictions(folder)["row"]
    return read_result(folder), folder, test.arrays["pooled"][rows], test.labels[rows]


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        (NearestClassMean(), {}),
        (LinearProbe(Cs=[0.01, 1.0]), {"standardize": True}),
        (RidgeProbe(), {"conformal_level": 0.8, "protocol": LabelNoise(Full(), 0.2)}),
        (SklearnHead("sklearn.naive_bayes.GaussianNB"), {}),
    ],
    ids=["ncm", "linear, standardised", "ridge, noise, 80 %", "sklearn"],
)
def test_the_kept_head_gives_the_numbers_of_the_record(wine, tmp_path, head, changes):
    level = changes.get("conformal_level", 0.9)
    record, folder, X, y = kept(wine, tmp_path, head, **changes)
    loaded = Head.load(folder / CALIBRATED)
    assert type(loaded) is type(head)
    assert loaded.temperature_ == record["calibration"]["temperature"]
    assert len(loaded.held_out_scores_) == record["calibration"]["n_held_out"]
    sets = {
        name: SetScores(loaded.predict_set(X, level, class_conditional=by_class), y)
        for name, by_class in (("sets", False), ("class_conditional_sets", True))
    }
    found = measure(sets).metrics
    assert len(found) == 8
    assert {name: vars(interval) for name, interval in found.items()} == {n: record["metrics"][n] for n in found}
    probabilities = loaded.predict_proba(X)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-12)
    with np.errstate(divide="ignore"):
        scaled = evaluate(np.log(probabilities), y)
    for name in ("log_loss", "brier", "ece"):
        assert scaled[name].value == pytest.approx(record["metrics"][f"scaled_{name}"]["value"], rel=1e-9), name
    raw = evaluate(loaded.logits(X).astype(np.float32), y)
    assert raw["log_loss"].value == pytest.approx(record["calibration"]["unscaled"]["log_loss"]["value"], rel=1e-12)


def test_the_head_of_the_predictions_is_kept_beside_it_and_is_not_calibrated(wine, tmp_path):
    record, folder, X, _ = kept(wine, tmp_path, NearestClassMean())
    plain, calibrated = (Head.load(folder / name) for name in (HEAD, CALIBRATED))
    assert set(record["files"]) == {"predictions.safetensors", HEAD, CALIBRATED}
    np.testing.assert_array_equal(plain.predict(X), read_predictions(folder)["predicted"])
    assert plain.class_count_.sum() == calibrated.class_count_.sum() + record["calibration"]["n_held_out"]
    sentence = "this NearestClassMean is not calibrated: make the run with calibrate=true, and force=true where"
    with pytest.raises(InputError, match=sentence):
        plain.predict_set(X)


def test_sets_grow_with_the_level_up_to_what_the_held_out_rows_bear(wine, tmp_path):
    _, folder, X, _ = kept(wine, tmp_path, NearestClassMean())
    head = Head.load(folder / CALIBRATED)
    sizes = [head.predict_set(X, level).sum() for level in (0.2, 0.6, 0.9)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
    n = len(head.held_out_scores_)
    assert head.predict_set(X[:1], n / (n + 1)).shape == (1, 3)
    with pytest.raises(InputError, match=rf"level is 0\.99, whose sets need 99 held-out rows, .* calibrated on {n}"):
        head.predict_set(X, 0.99)
    assert head.predict_set(X, 0.99, class_conditional=True).all()
    with pytest.raises(InputError, match=r"level is 1, expected between 0 and 1"):
        head.predict_set(X, 1)


def test_a_new_fit_forgets_the_calibration_and_saving_does_not(wine, tmp_path):
    _, folder, X, y = kept(wine, tmp_path, NearestClassMean())
    head = Head.load(folder / CALIBRATED)
    head.save(tmp_path / "again")
    np.testing.assert_array_equal(Head.load(tmp_path / "again").predict_set(X), head.predict_set(X))
    head.fit(X, y)
    assert not hasattr(head, "temperature_")
    with pytest.raises(InputError, match="is not calibrated"):
        head.predict_set(X)


def test_another_kept_head_is_told_by_reproduce_and_a_run_without_one_is_not(wine, tmp_path):
    record, folder, _, _ = kept(wine, tmp_path, NearestClassMean())
    other, elsewhere, _, _ = kept(wine, tmp_path / "other", NearestClassMean(metric="cosine"))
    assert f"{CALIBRATED}: other bits" in compare(folder, record, elsewhere, other)
    (folder / CALIBRATED).unlink()
    files = {name: facts for name, facts in record["files"].items() if name != CALIBRATED}
    assert not any(CALIBRATED in line for line in compare(folder, {**record, "files": files}, elsewhere, other))
