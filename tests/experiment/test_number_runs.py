"""Numbers to predict, from the file to the table."""

import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command
from number_runs import in_process
from places import ROOT
from safetensors.numpy import load_file
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score

from probe.backbones.identity import IdentityBackbone
from probe.command.describe import describe, render
from probe.core.errors import DoesNotFit, InputError
from probe.core.targets.number import Number
from probe.datasets import csv, sklearn
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.heads.linear import LinearProbe
from probe.heads.mean import TrainingMean
from probe.heads.ols import OrdinaryLeastSquares
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.heads.sklearn import SklearnHead
from probe.leaderboard.command import main, write_sweep_table
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.easy_to_hard import EasyToHard
from probe.protocols.few_shot import FewShot
from probe.protocols.fraction import Fraction
from probe.protocols.full import Full
from probe.protocols.holdout import Holdout
from probe.protocols.label_noise import LabelNoise
from probe.protocols.long_tail import LongTail
from probe.protocols.official import Official
from probe.protocols.recorded import Recorded
from probe.protocols.rows import RandomRows
from probe.results.schema import dumps
from probe.trackers.wandb import tables


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of the command over a table of numbers in a column `yield`, with a few of them missing."""
    cwd = tmp_path_factory.mktemp("numbers")
    random = np.random.default_rng(0)
    X = random.normal(size=(240, 6))
    y = 100 + 10 * (X @ [1.0, -1, 0.5, 0, 0, 0] + 0.7 * random.normal(size=240))
    texts = [f"{value:.6f}" for value in y]
    texts[7] = ""
    lines = ["f0,f1,f2,f3,f4,f5,yield", *(",".join([*map(str, row), t]) for row, t in zip(X, texts, strict=True))]
    (cwd / "wheat.csv").write_text("\n".join(lines) + "\n")
    words = ["dataset=csv", "dataset.path=wheat.csv", "dataset.target_columns=[yield]", "dataset.units=[kg]",
             "dataset.missing=drop", "protocol=holdout", "head=ridge,mean,median,ols", "seed=0,1"]  # fmt: skip
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    answer = command(["-m", "backbone=identity", *words], cwd, env)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (cwd / "printed.txt").write_text(answer.stdout + answer.stderr)
    return cwd


def runs(folder: Path, head: str = "") -> list[Path]:
    return sorted(p.parent for p in (folder / "runs/default").glob(f"*{head}*/result.json"))


def test_metrics_are_those_of_the_saved_predictions(folder: Path) -> None:
    assert len(runs(folder)) == 8
    for made in runs(folder, "-ridge-"):
        result, rows = json.loads((made / "result.json").read_text()), load_file(made / "predictions.safetensors")
        found = {name: metric["value"] for name, metric in result["metrics"].items()}
        assert set(rows) == {"row", "label", "predicted", "metric.r2_against_training"}
        expected = {
            "r2": r2_score(rows["label"], rows["predicted"]),
            "mae": mean_absolute_error(rows["label"], rows["predicted"]),
            "spearman": spearmanr(rows["label"], rows["predicted"])[0],
            "kendall": kendalltau(rows["label"], rows["predicted"])[0],
        }
        assert {name: found[name] for name in expected} == pytest.approx(expected)
        assert 0.6 < found["r2"] < 0.9
        assert (result["dataset"]["target"], result["dataset"]["units"]) == ("number", ["kg"])
        data = csv.load(str(folder / "wheat.csv"), target_columns="yield", missing="drop")
        X = np.stack([data.partitions["train"][int(row)] for row in rows["row"]]).astype(np.float32)
        np.testing.assert_allclose(Head.load(made / "head.safetensors").predict(X), rows["predicted"], rtol=1e-5)


def test_the_table_ranks_by_r2_and_tells_what_is_missing(folder: Path) -> None:
    printed = (folder / "printed.txt").read_text()
    assert "r2 (higher is better)" in printed
    assert "1 row of train without a number to predict" in " ".join(printed.split())
    assert "8 done" in printed


def test_tables_pairs_and_pages_know_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--html", str(folder / "page.html"), "--plots", str(folder / "plots")]
    assert main([str(folder / "runs"), "--metric", "mae", "--compare", "ridge", "mean", *out]) == 0
    printed = capsys.readouterr().out
    assert "A wins 1" in printed
    assert not (folder / "plots" / "risk.png").exists()
    assert main([str(folder / "runs"), "--metric", "mae"]) == 0
    assert "mae, unit of the target (lower is better)" in capsys.readouterr().out
    records = read_folders([folder / "runs"])
    data = page_data(build_table(records, "mae"), records.frame)
    assert data["views"][0]["significant"]
    assert not [run["fault"] for run in data["runs"] if run["fault"]]
    detail = data["runs"][0]["detail"]
    assert (detail["kind"], detail["columns"][0]["unit"]) == ("number", "kg")
    assert len(detail["columns"][0]["true"]) == detail["rows"] == 120
    made = runs(folder, "-ridge-")[0]
    assert list(tables(json.loads((made / "result.json").read_text()), made)) == ["selection"]
    assert main([str(folder / "runs"), "--metric", "median_error"]) == 1
    assert "'median_error' cannot rank" in capsys.readouterr().err


def test_an_edited_metric_is_noticed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "runs" / runs(folder)[0].name
    copy.mkdir(parents=True)
    for file in ("predictions.safetensors", "result.json"):
        (copy / file).write_bytes((runs(folder)[0] / file).read_bytes())
    result = json.loads((copy / "result.json").read_text())
    result["metrics"]["rmse"]["value"] *= 1.01
    (copy / "result.json").write_bytes(dumps(result))
    assert main([str(tmp_path)]) == 1
    assert "rmse is recorded as" in capsys.readouterr().err


def test_numbers_and_classes_have_tables_of_their_own(folder: Path, tmp_path: Path) -> None:
    in_process(folder, tmp_path)
    in_process(folder, tmp_path, dataset=sklearn.load("iris"))
    printed = write_sweep_table(tmp_path)
    assert "top1, % (higher is better)" in printed
    assert "r2 (higher is better)" in printed


@pytest.mark.parametrize(
    "protocol",
    [Fraction(0.3), RandomRows(n=40), CrossValidation(), Holdout(), FewShot(3), FewShot(1)],
    ids=lambda p: f"{p.name}-{getattr(p, 'k', '')}",
)
def test_other_protocols_run(folder: Path, tmp_path: Path, protocol: Any) -> None:
    result = in_process(folder, tmp_path, protocol=protocol)
    assert result["protocol"]["name"] == protocol.name
    assert result["metrics"]["mae"]["value"] < 75


def test_recorded_rows_give_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    first = in_process(folder, tmp_path / "drawn", protocol=Holdout(), save_rows=True)
    (rows,) = (tmp_path / "drawn").glob("*/rows.json")
    again = in_process(folder, tmp_path / "recorded", protocol=Recorded(str(rows)))
    assert again["metrics"] == first["metrics"]


def test_shuffled_numbers_leave_nothing_to_learn(folder: Path, tmp_path: Path) -> None:
    result = in_process(folder, tmp_path, shuffle_labels=True)
    assert result["shuffle_labels"]
    assert result["metrics"]["r2_against_training"]["value"] < 0.1


def test_more_rows_make_a_learning_curve(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n, seed in itertools.product((20, 60, 150), (0, 1)):
        in_process(folder, tmp_path, protocol=RandomRows(n=n), seed=seed, head=OrdinaryLeastSquares())
    assert main([str(tmp_path), "--curves"]) == 0
    assert "r2" in capsys.readouterr().out


def test_easy_to_hard_runs_where_the_dataset_knows_what_is_hard(folder: Path, tmp_path: Path) -> None:
    data = sklearn.load("diabetes")
    for partition in data.partitions.values():
        partition.hardness = np.abs(partition.labels - 150)  # type: ignore[attr-defined]
    result = in_process(folder, tmp_path, dataset=data, protocol=EasyToHard(hardness=None))
    assert result["protocol"]["n_train"] + result["protocol"]["n_validation"] < 75


def test_several_columns_and_any_regressor_run(folder: Path, tmp_path: Path) -> None:
    head = SklearnHead("sklearn.svm.SVR", {"kernel": "linear"})
    found = in_process(folder, tmp_path, dataset=sklearn.load("linnerud"), head=head)
    assert found["dataset"]["class_names"] == ["weight", "waist", "pulse"]
    assert found["metrics"]["mae"]["value"] > 0


def test_poisoned_test_rows_change_no_fit(folder: Path, tmp_path: Path) -> None:
    def made(factor: float) -> Any:
        random = np.random.default_rng(0)
        X, y = random.normal(size=(80, 4)), random.normal(size=80)
        X[40:] *= factor
        y[40:] *= factor
        rows = {"train": slice(0, 30), "validation": slice(30, 40), "test": slice(40, 80)}
        ids = list(map(str, range(80)))
        parts = {name: ArrayPartition(X[of], y[of], ids[of], target=Number()) for name, of in rows.items()}
        return make_dataset(f"x{factor}", ["y"], parts, target=Number())

    for head in (RidgeProbe(), OrdinaryLeastSquares(), TrainingMean()):
        for factor in (1.0, 1e6):
            in_process(folder, tmp_path / str(factor), dataset=made(factor), head=head, protocol=Official())
        one, two = (sorted((tmp_path / f).glob(f"*{type(head).__name__[:3].lower()}*")) for f in ("1.0", "1000000.0"))
        for a, b in zip(one, two, strict=True):
            x, y = (load_file(path / "head.safetensors") for path in (a, b))
            assert x.keys() == y.keys()
            assert all(np.array_equal(x[key], y[key]) for key in x)


def test_rows_of_one_group_widen_the_interval(folder: Path, tmp_path: Path) -> None:
    alone = in_process(folder, tmp_path)["metrics"]["mae"]
    data = sklearn.load("diabetes")
    for partition in data.partitions.values():
        # Rows of one group have much the same number, so that groups differ.
        partition.groups = np.argsort(np.argsort(partition.labels)) // 20  # type: ignore[attr-defined]
    grouped = in_process(folder, tmp_path, dataset=data, head=TrainingMean())["metrics"]["mae"]
    plain = in_process(folder, tmp_path, head=TrainingMean())["metrics"]["mae"]
    assert grouped["value"] == pytest.approx(plain["value"])
    assert grouped["high"] - grouped["low"] > 2 * (plain["high"] - plain["low"])
    assert alone["value"] < plain["value"]


def test_another_dataset_with_the_same_columns_can_test(folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    X, Y = random.normal(size=(60, 3)), random.normal([0, 100], size=(60, 2))

    def made(name: str, columns: list[int], unit: str = "mm") -> Any:
        target, names = Number((unit, unit)), [f"y{k}" for k in columns]
        parts = {part: ArrayPartition(X, Y[:, columns], [f"{part}{i}" for i in range(60)], target=target)
                 for part in ("train", "test")}  # fmt: skip
        return make_dataset(name, names, parts, target=target)

    straight = in_process(folder, tmp_path, dataset=made("a", [0, 1]), test_on=made("b", [0, 1]))
    turned = in_process(folder, tmp_path, dataset=made("a", [0, 1]), test_on=made("c", [1, 0]))
    assert turned["metrics"]["mae"] == straight["metrics"]["mae"]
    with pytest.raises(InputError, match="dataset d has y0, y1 in another unit, dataset a predicts y0, y1: give"):
        in_process(folder, tmp_path, dataset=made("a", [0, 1]), test_on=made("d", [0, 1], "cm"))
    with pytest.raises(InputError, match="dataset diabetes has numbers to predict, dataset iris has one class per row"):
        in_process(folder, tmp_path, test_on=sklearn.load("iris"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"head": LinearProbe()}, "diabetes has numbers to predict, head linear fits one class per row or several lab"),
        ({"head": LinearProbe()}, "choose one of .*mean, median, .*ols, .*ridge, sklearn"),
        ({"head": TrainingMean(), "dataset": sklearn.load("iris")}, "one class per row, head mean fits numbers"),
        ({"head": SklearnHead()}, "head.estimator is 'sklearn.svm.SVC', expected the import path of a regressor"),
        ({"protocol": ClassIncremental()}, "protocol class_incremental draws by class: choose one of cross_validation"),
        ({"protocol": LabelNoise(Full())}, "numbers to predict, protocol label_noise draws by class: choose one of"),
        ({"protocol": LongTail(Full())}, "numbers to predict, protocol long_tail draws by class: choose one of"),
    ],
)  # fmt: skip
def test_what_wants_classes_is_refused_early_and_the_reverse(folder: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises((InputError, DoesNotFit), match=text):
        in_process(folder, folder / "refused", **changes)


def test_the_protocols_that_are_named_instead_are_those_that_run() -> None:
    from probe.experiment.fits import check_target

    class Asked:
        dataset, head, protocol, test_on = sklearn.load("diabetes"), RidgeProbe(), LongTail(Full()), None
        calibrate, teacher = False, None

    names = "cross_validation, easy_to_hard, few_shot, fraction, full, holdout, official, recorded, rows, vtab1k"
    with pytest.raises(InputError, match=f"choose one of {names}"):
        check_target(Asked())  # type: ignore[arg-type]


def test_describe_tells_the_range_instead_of_classes() -> None:
    facts = describe(IdentityBackbone(), sklearn.load("diabetes"))
    printed = render(facts)
    assert "diabetes, numbers to predict: progression, 22" in printed
    assert re.search(r"train values   progression \d+ to 3\d\d, median \d+", printed)
