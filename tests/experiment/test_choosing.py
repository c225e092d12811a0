from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.identity import IdentityBackbone
from probe.core.base import Split
from probe.datasets.sklearn import load
from probe.experiment.choosing import OF_FOLDS, fit, fit_on_folds, remarks
from probe.experiment.folds import chosen_on_folds
from probe.experiment.run import Run, run_once
from probe.features.store import FeatureStore
from probe.heads.linear import LinearProbe
from probe.heads.ridge import RidgeProbe
from probe.protocols.full import Full
from probe.results.reader import read_result


def split(head: Any, name: str = "breast_cancer", taught: bool = False, **full: Any) -> tuple[Split, Split]:
    dataset, protocol = load(name=name), Full(**full)
    drawn = protocol.split(dataset, 0)
    return drawn, chosen_on_folds(head, dataset, protocol, drawn, 0, apart=taught)


def test_few_validation_rows_join_the_training_rows_in_folds() -> None:
    drawn, found = split(LinearProbe())
    assert 0 < len(drawn.validation) < 200
    assert len(found.validation) == 0
    assert set(found.train.indices) == set(drawn.train.indices) | set(drawn.validation.indices)
    assert np.unique(found.folds).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("head", "more"),
    [
        (LinearProbe(refit=False), {}),
        (RidgeProbe(), {}),
        (LinearProbe(), {"taught": True}),
        (LinearProbe(), {"name": "digits", "validation_fraction": 0.5}),
        (LinearProbe(), {"validation_fraction": 0.0}),
    ],
)
def test_other_splits_stay_what_they_are(head: Any, more: dict[str, Any]) -> None:
    drawn, found = split(head, **more)
    assert found is drawn


def test_a_run_says_that_it_chose_on_folds(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "cache")
    folder, _ = run_once(
        Run(IdentityBackbone(), load(name="iris"), Full(), LinearProbe(), store, tmp_path / "runs", device="cpu")
    )
    result = read_result(folder)
    assert result["selection"]["on"] == "5 folds of the training rows"
    assert result["head"]["chosen_on"] == "folds"
    assert isinstance(result["selection"]["remarks"], list)


def searched(scores: dict[float, float], chosen: float) -> dict[str, object]:
    return {"searched": [{"C": C, "score": s} for C, s in scores.items()], "chosen": {"C": chosen}}


def test_an_end_of_the_grid_and_ties_are_told() -> None:
    assert remarks(searched({0.1: 0.5, 1: 0.6, 10: 0.7}, 10)) == ["C is the largest of 3 searched"]
    assert remarks(searched({0.1: 0.8, 1: 0.6, 10: 0.7}, 0.1)) == ["C is the smallest of 3 searched"]
    assert remarks(searched({0.1: 0.5, 1: 0.7, 10: 0.7}, 1)) == ["2 of 3 candidates score the same"]
    assert remarks(searched({0.1: 0.5, 1: 0.7, 10: 0.6}, 1)) == []
    assert remarks(None) == remarks(searched({1: 0.5}, 1)) == []


@pytest.mark.parametrize("score", [-1e300, -np.inf, np.nan])
def test_scores_that_are_huge_or_no_number_on_a_fold_still_name_a_best(score: float) -> None:
    class Diverges(RidgeProbe):
        def fit_splits(self, *args: Any, **more: Any) -> Any:
            for trial in super().fit_splits(*args, **more):
                trial.selection_["searched"][0]["score"] = score
                yield trial

    y, folds = np.tile(np.arange(3), 5), np.repeat(np.arange(5), 3)
    X = np.random.default_rng(0).normal(size=(15, 5)) + np.eye(3, 5)[y]
    head = fit_on_folds(Diverges(alphas=[1.0, 10.0]), X, y, folds, {})
    assert head.selection_["chosen"] == {"alpha": 10.0}
    assert np.isfinite([entry["score"] for entry in head.selection_["searched"]]).all()  # as a record holds them


def test_what_folds_chose_says_of_their_rows_what_a_new_fit_without_them_would():
    rng = np.random.default_rng(0)
    y, folds = np.arange(60) % 3, np.arange(60) // 3 % 5
    X = rng.normal(size=(60, 4)) + y[:, None]
    head = fit(LinearProbe(Cs=[1e-3, 0.1, 10.0], tol=1e-10), (X, y), (None, y[:0]), folds, {})
    for fold, fitted in head.__dict__[OF_FOLDS].items():
        alone = LinearProbe(Cs=[head.C_], tol=1e-10).fit(X[folds != fold], y[folds != fold])
        np.testing.assert_allclose(fitted.logits(X[folds == fold]), alone.logits(X[folds == fold]), atol=1e-4)
