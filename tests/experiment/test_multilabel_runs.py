"""Rows with several labels from the file to the table."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command
from places import ROOT
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score, f1_score

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import InputError
from probe.datasets import npz, sklearn
from probe.datasets.shared.subsets import limited
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.head import Head
from probe.leaderboard.command import main, write_sweep_table
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.few_shot import FewShot
from probe.protocols.fraction import Fraction
from probe.protocols.full import Full
from probe.protocols.holdout import Holdout
from probe.protocols.rows import RandomRows
from probe.results.schema import dumps


def probe(*words: str, cwd: Path, expect: int = 0) -> str:
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    answer = command(words, cwd, env)
    assert answer.returncode == expect, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("several")
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 8)).astype(np.float32)
    targets = (X[:, :4] + 0.7 * random.normal(size=(300, 4)) > [0, 0.5, 1, 1.5]).astype(np.int64)
    arrays = {"x_train": X[:200], "y_train": targets[:200], "x_test": X[200:], "y_test": targets[200:]}
    np.savez(cwd / "several.npz", **arrays)
    words = ["backbone=identity", "dataset=npz", "dataset.path=several.npz", "head.Cs=4"]
    (cwd / "printed.txt").write_text(probe("-m", *words, "head.scaling=none,standard", "seed=0,1", cwd=cwd))
    return cwd


def runs(folder: Path) -> list[Path]:
    return sorted(p.parent for p in (folder / "runs/default").glob("*/result.json"))


def test_metrics_are_those_of_the_saved_predictions(folder: Path) -> None:
    assert len(runs(folder)) == 4
    for made in runs(folder):
        result, rows = json.loads((made / "result.json").read_text()), load_file(made / "predictions.safetensors")
        found = {name: metric["value"] for name, metric in result["metrics"].items()}
        assert found["mAP"] == pytest.approx(average_precision_score(rows["label"], rows["logits"]))
        for average in ("micro", "macro"):
            expected = f1_score(rows["label"], rows["predicted"], average=average)
            assert found[f"{average}_f1"] == pytest.approx(expected)
        assert result["labels"]["head"].startswith("linear")
        assert found["mAP"] > 0.7
        head = Head.load(made / "head.safetensors")
        np.testing.assert_array_equal(head.predict(np.load(folder / "several.npz")["x_test"]), rows["predicted"])


def test_calibrated_runs_answer_with_label_sets_and_change_nothing_else(folder: Path) -> None:
    made = [in_process(folder, folder / "sets", calibrate=asked) for asked in (False, True)]
    plain, calibrated = (json.loads((one / "result.json").read_text()) for one in made)
    for name, value in plain["metrics"].items():
        assert calibrated["metrics"][name] == value
    found = {name: value["value"] for name, value in calibrated["metrics"].items() if name not in plain["metrics"]}
    assert set(found) == {
        "label_set_coverage", "mean_label_sets", "empty_label_sets", "cut_label_sets", "label_set_p_distance",
    }  # fmt: skip
    assert found["label_set_coverage"] > 0.8
    assert 1 < found["mean_label_sets"] < 16
    assert calibrated["calibration"]["n_held_out"] >= 9


def test_sweep_and_leaderboard_show_map_in_percent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "mAP, % (higher is better)" in (folder / "printed.txt").read_text()
    assert "4 done" in (folder / "printed.txt").read_text()
    rows = ["identity linear(Cs=4)", "identity linear(Cs=4,scaling=standard)"]
    assert main([str(folder / "runs"), "--metric", "macro_f1", "--compare", *rows]) == 0
    assert "macro_f1: A = " in capsys.readouterr().out
    out = ["--html", str(folder / "page.html"), "--plots", str(folder / "plots")]
    assert main([str(folder / "runs"), "--metric", "mAP", *out]) == 0
    assert (folder / "plots" / "scores-mAP.png").exists()
    assert not (folder / "plots" / "risk.png").exists()
    capsys.readouterr()
    assert main([str(folder / "runs"), "--metric", "top1"]) == 1
    assert "no run has the metric 'top1': choose one of" in capsys.readouterr().err


def test_an_edited_metric_is_noticed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "runs" / runs(folder)[0].name
    copy.mkdir(parents=True)
    for file in ("predictions.safetensors", "result.json"):
        (copy / file).write_bytes((runs(folder)[0] / file).read_bytes())
    result = json.loads((copy / "result.json").read_text())
    result["metrics"]["mAP"]["value"] += 0.01
    (copy / "result.json").write_bytes(dumps(result))
    assert main([str(tmp_path)]) == 1
    assert "mAP is recorded as" in capsys.readouterr().err


def in_process(folder: Path, runs: Path, **changes: Any) -> Path:
    request = {
        "backbone": IdentityBackbone(),
        "dataset": npz.load(str(folder / "several.npz")),
        "protocol": Full(),
        "head": LinearProbe(Cs=[0.1, 1.0]),
        "store": FeatureStore(folder / "cache"),
        "folder": runs,
        "device": "cpu",
    }
    return run(Run(**(request | changes)))


def test_runs_with_one_and_with_several_labels_have_tables_of_their_own(folder: Path, tmp_path: Path) -> None:
    in_process(folder, tmp_path)
    in_process(folder, tmp_path, dataset=sklearn.load("iris"))
    printed = write_sweep_table(tmp_path)
    assert "top1, % (higher is better)" in printed
    assert "mAP, % (higher is better)" in printed


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"head": NearestClassMean()},
            "several has several labels per row, head ncm fits one class per row: choose one of attentive, comic, knn",
        ),
        ({"protocol": FewShot()}, "protocol few_shot draws by class: choose one of cross_validation, fraction, full"),
        ({"test_on": sklearn.load("iris")}, "several has several labels per row, test_on need one class per row"),
    ],
)
def test_what_knows_one_label_per_row_is_refused_early(folder: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        in_process(folder, folder / "refused", **changes)


def test_several_labels_cannot_test_what_one_label_trained(folder: Path) -> None:
    several = npz.load(str(folder / "several.npz"))
    with pytest.raises(InputError, match="dataset several has several labels per row: test_on takes one class"):
        in_process(folder, folder / "refused", dataset=sklearn.load("iris"), test_on=several)


@pytest.mark.parametrize(
    "protocol", [Fraction(0.3), RandomRows(n=12), CrossValidation(), Holdout()], ids=lambda p: p.name
)
def test_other_protocols_run(folder: Path, tmp_path: Path, protocol: Any) -> None:
    result = json.loads((in_process(folder, tmp_path, protocol=protocol) / "result.json").read_text())
    assert result["protocol"]["name"] == protocol.name
    assert 0 < result["metrics"]["mAP"]["value"] <= 1


def test_a_limited_run_keeps_targets(folder: Path, tmp_path: Path) -> None:
    data = limited(npz.load(str(folder / "several.npz")), 60)
    result = json.loads((in_process(folder, tmp_path, dataset=data) / "result.json").read_text())
    assert result["dataset"]["name"] == "several(limit=60)"
    assert result["protocol"]["n_test"] == 60
