"""Classes and numbers that are grades: what a run measures of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import cohen_kappa_score

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import InputError
from probe.datasets import csv
from probe.datasets.shared.in_memory import dataset_of
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.ordinal import OrdinalRegression
from probe.heads.ridge import RidgeProbe
from probe.leaderboard.command import main
from probe.protocols.holdout import Holdout

NAMES = ["none", "mild", "severe", "very severe"]
MEASURED = {"quadratic_kappa", "rank_error", "within_one"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grades of a disease as names and as numbers, of three rows per patient."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 3))
    grades = np.digitize(X[:, 0] + 0.5 * rng.normal(size=240), [-1, 0, 1])
    rows = [f"{','.join(map(str, x))},{NAMES[g]},{g},p{i // 3}" for i, (x, g) in enumerate(zip(X, grades, strict=True))]
    path = tmp_path_factory.mktemp("grades") / "eyes.csv"
    path.write_text("\n".join(["a,b,c,label,grade,patient", *rows]) + "\n")
    return path


def made(table: Path, runs: Path, head: Any, **options: Any) -> tuple[Path, dict[str, Any]]:
    data = csv.load(str(table), feature_columns=["a", "b", "c"], group_column="patient", **options)
    request = Run(backbone=IdentityBackbone(), dataset=data, protocol=Holdout(), head=head, device="cpu",
                  store=FeatureStore(table.parent / "cache"), folder=runs)  # fmt: skip
    folder = run(request)
    return folder, json.loads((folder / "result.json").read_text())


def test_ordered_classes_are_scored_by_grade(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"class_names": NAMES, "label_column": "label"}
    folder, found = made(table, tmp_path, RidgeProbe(), **options, ordered=True)
    rows = load_file(folder / "predictions.safetensors")
    kappa = cohen_kappa_score(rows["label"], rows["predicted"], weights="quadratic")
    assert found["metrics"]["quadratic_kappa"]["value"] == pytest.approx(kappa)
    assert found["dataset"]["ordered"]
    assert {name.removeprefix("metric.") for name in rows} >= MEASURED
    # The same rows without the declaration are another run, of the same features.
    other, plain = made(table, tmp_path, RidgeProbe(), **options)
    assert other != folder
    assert not MEASURED & set(plain["metrics"])
    assert plain["metrics"]["top1"] == found["metrics"]["top1"]
    assert main([str(folder), "--metric", "rank_error"]) == 0
    assert "rank_error, grades (lower is better)" in capsys.readouterr().out


def test_ordered_numbers_are_scored_by_the_nearest_grade(table: Path, tmp_path: Path) -> None:
    _, found = made(table, tmp_path, OrdinalRegression(), target_columns="grade", ordered=True)
    assert found["metrics"].keys() >= MEASURED | {"mae", "r2"}
    assert found["metrics"]["within_one"]["value"] > 0.95
    assert found["metrics"]["quadratic_kappa"]["value"] > 0.6


def test_what_has_no_grades_is_refused() -> None:
    X = np.random.default_rng(0).normal(size=(200, 2))
    several = (np.arange(200)[:, None] // np.array([1, 2])) % 2
    with pytest.raises(InputError, match=r"several labels per row has no grades: leave dataset\.ordered out"):
        dataset_of({"train": (X, several)}, ordered=True)
    with pytest.raises(InputError, match=r"200 different numbers, where dataset\.ordered=true wants grades, 100"):
        dataset_of({"train": (X, X[:, 0])}, target="number", ordered=True)
    assert not dataset_of({"train": (X, X[:, 0])}, target="number").target.ordered
