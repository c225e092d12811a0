"""Predictions of the rows that a head chose on are those of a fit that did not see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from probe.backbones.identity import IdentityBackbone
from probe.core.base import Dataset, SplitProtocol
from probe.datasets.gaussians import load as gaussians
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.dual_head_kd import DualHeadKD
from probe.heads.fixed_moments import FixedMoments
from probe.heads.linear import LinearProbe
from probe.heads.linear_sgd import LinearSGD
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.heads.shared.one_vs_rest import OneVsRestLinear
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import restored
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.results.reader import read_predictions, read_result, read_validation

CHOOSERS = [
    LinearProbe(Cs=[0.01, 1.0], tol=1e-10),
    LinearSGD(lrs=(0.01, 0.1), epochs=3),
    DualHeadKD(arm="ce", trunk_depth=0, epochs=(3,), learning_rates=(0.01, 0.1)),
    RidgeProbe(alphas=[0.1, 10.0]),
]


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return rng.normal(size=(n, 6)) + 0.7 * np.eye(3, 6)[y], y


@pytest.mark.parametrize("head", CHOOSERS, ids=lambda head: type(head).__name__)
def test_the_head_before_its_refit_has_not_seen_the_validation_rows(head: Head) -> None:
    (X, y), (X_val, y_val) = rows(90, 0), rows(45, 1)
    fitted = clone(head).fit(X, y, validation=(X_val, y_val))
    before = fitted.before_refit()
    assert before is not None
    name, value = next(iter(fitted.selection_["chosen"].items()))
    score = next(c["score"] for c in fitted.selection_["searched"] if c[name] == value or name == "epochs")
    best = max(c["score"] for c in fitted.selection_["searched"])
    assert (before.predict(X_val) == y_val).mean() == pytest.approx(best if name == "epochs" else score)
    assert not np.allclose(before.logits(X), fitted.logits(X))
    again = clone(head).fit(X, y, validation=(X_val, y_val)).before_refit()
    np.testing.assert_array_equal(before.logits(X_val), again.logits(X_val))


def test_moments_before_the_refit_are_those_of_the_training_rows() -> None:
    rng, y = np.random.default_rng(0), np.arange(60) % 3
    X = {
        "pooled": rng.normal(size=(60, 5)).astype(np.float32),
        "tokens": rng.normal(size=(60, 4, 8)).astype(np.float32),
    }
    train, rest = ({kind: array[part] for kind, array in X.items()} for part in (slice(40), slice(40, None)))
    head = FixedMoments(hidden_width=8, n_groups=2, Cs=(1e-3, 1e-1)).fit(train, y[:40], validation=(rest, y[40:]))
    before, alone = head.before_refit(), clone(head).set_params(refit=False, Cs=[head.selection_["chosen"]["C"]])
    assert before is not None
    np.testing.assert_allclose(before.logits(rest), alone.fit(train, y[:40]).logits(rest), atol=1e-3)


def test_labels_before_the_refit_are_those_of_the_training_rows() -> None:
    X, y = rows(120, 0)
    targets = np.stack([y == 0, y > 0], axis=1).astype(np.int64)
    head = OneVsRestLinear(Cs=[0.01, 1.0]).fit(X[:80], targets[:80], validation=(X[80:], targets[80:]))
    alone = OneVsRestLinear(Cs=[head.C_]).fit(X[:80], targets[:80])
    before = head.before_refit()
    assert before is not None
    np.testing.assert_allclose(before.logits(X[80:]), alone.logits(X[80:]), atol=1e-3)


@pytest.mark.parametrize("head", [NearestClassMean(), *CHOOSERS], ids=lambda head: type(head).__name__)
def test_what_chose_on_no_given_rows_has_no_such_head(head: Head) -> None:
    X, y = rows(90, 0)
    fitted = clone(head).fit(X, y)
    assert fitted.before_refit() is None


def make(tmp_path: Path, data: Dataset, head: Head, protocol: SplitProtocol, **changes: Any) -> Path:
    store = FeatureStore(tmp_path / "cache")
    return run(Run(IdentityBackbone(), data, protocol, head, store, tmp_path / "runs", device="cpu", **changes))


@pytest.fixture(scope="module")
def wine() -> Dataset:
    return load(name="wine")


def score_of_the_chosen(folder: Path) -> float:
    selection = read_result(folder)["selection"]
    chosen = selection["chosen"].items()
    (found,) = [c["score"] for c in selection["searched"] if chosen <= c.items()]
    return float(found)


def test_a_run_keeps_what_it_said_of_the_validation_rows(
    tmp_path: Path, wine: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinearProbe, "few_validation_rows", 0)  # wine is small enough for folds
    folder = make(tmp_path, wine, LinearProbe(Cs=[0.001, 1.0]), Full())
    found, tested = read_validation(folder), read_predictions(folder)
    assert found is not None
    split = Full().split(wine, 0)
    np.testing.assert_array_equal(found["row"], split.validation.indices)
    np.testing.assert_array_equal(found["label"], wine.partitions["train"].labels[split.validation.indices])
    assert (found["predicted"] == found["label"]).mean() == pytest.approx(score_of_the_chosen(folder))
    assert {name for name in tested if not name.startswith("metric.")} == set(found)
    assert {name: array.dtype for name, array in found.items()}.items() <= {
        n: a.dtype for n, a in tested.items()
    }.items()


def test_where_folds_chose_the_predictions_are_out_of_fold(tmp_path: Path) -> None:
    data = gaussians(n_classes=3, n_features=4, distance=1.5)
    folder = make(tmp_path, data, LinearProbe(Cs=[0.001, 0.1]), FewShot(4))
    found, split = read_validation(folder), FewShot(4).split(data, 0)
    assert found is not None
    assert split.folds is not None
    folds = split.folds[split.folds >= 0]
    np.testing.assert_array_equal(found["row"], split.train.indices[split.folds >= 0])
    shares = [(found["predicted"] == found["label"])[folds == fold].mean() for fold in np.unique(folds)]
    assert np.mean(shares) == pytest.approx(score_of_the_chosen(folder))


@pytest.mark.parametrize(
    ("head", "protocol"), [(NearestClassMean(), Full()), (LinearProbe(Cs=[1.0]), CrossValidation(3, 0))]
)
def test_a_head_that_chooses_nothing_leaves_none(tmp_path: Path, wine: Dataset, head: Head, protocol: Any) -> None:
    folder = make(tmp_path, wine, head, protocol)
    chose = (read_result(folder)["selection"] or {}).get("searched", [])
    assert (read_validation(folder) is None) == (len(chose) == 0)


def test_scores_are_read_once_and_metrics_follow_from_what_is_kept(tmp_path: Path, wine: Dataset) -> None:
    folder = make(tmp_path, wine, LinearProbe(Cs=[0.1]), Full(), calibrate=True)
    kept, metrics = read_predictions(folder), read_result(folder)["metrics"]
    for name, found in metrics.items():
        metric = known()[name]
        if not metric.can_rank:
            assert f"metric.{name}" not in kept
            continue
        values = metric.rows(restored(kept)) if metric.needs else kept[f"metric.{name}"]
        assert np.nanmean(values) == pytest.approx(found["value"], abs=1e-5), name
        assert (f"metric.{name}" in kept) != bool(metric.needs)
