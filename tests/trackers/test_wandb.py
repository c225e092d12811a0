"""wandb gets what a run and a sweep found; whatever it does, it loses none of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from places import ROOT

from probe.core.errors import InputError
from probe.trackers.wandb import WandbTracker, artifact_name, tables

RESULT: dict[str, Any] = {
    "config": {"seed": 0},
    "labels": {"head": "ncm"},
    "metrics": {"top1": {"value": 0.5, "low": 0.4, "high": 0.6}},
    "seconds": {"fit": 0.1},
}
TABLE = pd.DataFrame({"backbone": ["tiny"], "head": ["ncm"], "value": [0.5]})


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep with one job that fails, tracked offline, its second half after the first."""
    cwd = tmp_path_factory.mktemp("offline")
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "PYTHONPATH": str(ROOT), "WANDB_DATA_DIR": str(cwd)}
    words = ["-m", "name=t", "backbone=identity", "dataset=iris", "head=ncm", "tracker=wandb", "tracker.tags=[mine]"]
    words[4] = "head=ridge"
    words.append("head.alphas=[1.0,10.0],[-1.0]")
    answer = subprocess.run([sys.executable, "-m", "probe", *words], cwd=cwd, env=env, capture_output=True, text=True)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "1 done, 1 failed" in answer.stdout
    assert "wandb" not in answer.stderr.replace("tracker=wandb", ""), answer.stderr
    return cwd / "runs" / "t", answer.stdout


def test_an_offline_sweep_leaves_what_wandb_sync_takes(offline: tuple[Path, str]) -> None:
    contents = [path.read_bytes() for path in offline[0].glob("wandb/offline-run-*/run-*.wandb")]
    assert len(contents) == 2  # the run, and the leaderboard of the sweep
    (run,) = [
        content for content in contents if b"-iris-full-ridge-s0-" in content and b"mean_per_class_low" in content
    ]
    assert b"predictions.safetensors" in run
    assert b"head.safetensors" in run
    assert b"mine" in run
    searched, classes = (
        json.loads(next(offline[0].glob(f"wandb/offline-run-*/files/media/table/{name}_*.table.json")).read_text())
        for name in ("selection", "classes")
    )
    assert [row[searched["columns"].index("alpha")] for row in searched["data"]] == [1.0, 10.0]
    assert sum(row[1] for row in classes["data"]) == 75
    assert classes["columns"] == ["class", "rows", "accuracy"]
    (board,) = [content for content in contents if content is not run]
    assert b"t leaderboard" in board
    (sent,) = offline[0].glob("wandb/offline-run-*/files/media/table/leaderboard_*.table.json")
    table = json.loads(sent.read_text())
    local = pd.read_csv(offline[0] / "leaderboard.csv")
    assert table["columns"] == list(local.columns)
    assert [row[table["columns"].index("value")] for row in table["data"]] == list(local["value"])


def test_what_wandb_leaves_is_no_run(offline: tuple[Path, str]) -> None:
    assert "Not counted" not in offline[1]
    from probe.leaderboard.index import read_folders

    assert len(read_folders([offline[0]]).frame) == 1


class Broken(Exception):
    """What a network raises."""


@pytest.mark.parametrize("step", ["init", "Table", "Artifact.add_file"])
def test_a_wandb_that_raises_loses_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise Broken("no route to host")

    monkeypatch.setattr(f"wandb.{step}", refuse)
    tracker = WandbTracker(mode="disabled")
    (tmp_path / "t" / "run").mkdir(parents=True)
    (tmp_path / "t" / "run" / "result.json").write_text("{}")
    tracker.log(RESULT, tmp_path / "t" / "run")
    tracker.log_sweep(TABLE, tmp_path / "t")
    told = capfd.readouterr().err
    if step != "Table":
        assert "wandb did not record run (no route to host): the run folder itself is complete" in told
    if step != "Artifact.add_file":
        assert "wandb did not record the leaderboard of" in told
        assert "the sweep is complete" in told


def test_without_a_network_or_login_the_process_goes_on_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import wandb

    asked, init = [], wandb.init

    def only_offline(mode: str, **kwargs: Any) -> Any:
        asked.append(mode)
        if mode == "online":
            raise Broken("no route to host\nsee the manual")
        return init(mode="disabled", **kwargs)

    monkeypatch.setattr(wandb, "init", only_offline)
    monkeypatch.setattr(WandbTracker, "unreachable", False)
    for _ in range(2):  # a sweep makes a tracker for each job
        WandbTracker(mode="online").log(RESULT, tmp_path)
    assert asked == ["online", "offline", "offline"]
    assert capfd.readouterr().err == (
        "wandb cannot be reached (no route to host): recording offline, "
        f"`wandb sync {tmp_path.parent}/wandb/offline-run-*` uploads it later\n"
    )


def test_a_missing_wandb_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    WandbTracker().log(RESULT, tmp_path)
    assert "the run folder itself is complete" in capfd.readouterr().err


def test_disabled_sends_and_writes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t" / "run").mkdir(parents=True)
    (tmp_path / "t" / "run" / "result.json").write_text("{}")
    tracker = WandbTracker(mode="disabled")
    tracker.log(RESULT, tmp_path / "t" / "run")
    tracker.log_sweep(TABLE, tmp_path / "t")
    assert capfd.readouterr().err == ""
    assert [path.name for path in tmp_path.rglob("*")] == ["t", "run", "result.json"]


def test_an_unknown_mode_is_refused_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"tracker.mode is 'ofline', expected one of online, offline, disabled"):
        WandbTracker(mode="ofline")


def test_accuracy_after_each_task_and_the_search_are_curves(tmp_path: Path) -> None:
    tasks = {"names": ["a, b", "c"], "accuracies": [0.9, None]}
    selection = {"searched": [{"C": 0.1, "score": 0.5}, {"C": 1.0, "score": 0.6}], "chosen": {"C": 1.0}}
    found = tables(RESULT | {"tasks": tasks, "selection": selection}, tmp_path)
    assert found["tasks"] == (["task", "name", "accuracy"], [[0, "a, b", 0.9], [1, "c", None]], ("task", "accuracy"))
    assert found["selection"] == (["C", "score"], [[0.1, 0.5], [1.0, 0.6]], ("C", "score"))
    assert tables(RESULT, tmp_path) == {}


def test_the_loss_of_each_epoch_is_a_curve(tmp_path: Path) -> None:
    found = tables(RESULT | {"loss_per_epoch": [1.5, 0.5]}, tmp_path)
    assert found["training"] == (["epoch", "loss"], [[0, 1.5], [1, 0.5]], ("epoch", "loss"))


def test_a_run_that_was_there_is_recorded_and_no_run_is_recorded_twice(tmp_path: Path) -> None:
    env = os.environ | {
        "PROBE_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
        "WANDB_DATA_DIR": str(tmp_path),
    }
    words = [sys.executable, "-m", "probe", "name=t", "backbone=identity", "dataset=iris", "head=ridge"]
    recorded = []
    for more in ([], ["tracker=wandb"], ["tracker=wandb"], ["tracker=wandb", "force=true"]):
        answer = subprocess.run([*words, *more], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        recorded.append(len(list((tmp_path / "runs/t").glob("wandb/offline-run-*/run-*.wandb"))))
        assert "wandb" not in answer.stderr
    assert recorded[:3] == [0, 1, 1]
    (run,) = [p.read_bytes() for p in (tmp_path / "runs/t").glob("wandb/offline-run-*/run-*.wandb")][:1]
    assert b"selection/alpha" in run
    assert b"selection/score" in run


def test_each_curve_is_logged_along_its_own_axis(tmp_path: Path) -> None:
    class Run:
        def __init__(self) -> None:
            self.axes: dict[str, str] = {}
            self.rows: list[dict[str, Any]] = []

        def define_metric(self, name: str, step_metric: str = "", hidden: bool = False) -> None:
            self.axes[name] = step_metric

        def log(self, row: dict[str, Any]) -> None:
            self.rows.append(row)

    run, tasks = Run(), {"names": ["a", "b"], "accuracies": [0.9, 0.8]}
    WandbTracker._log_steps(run, tables(RESULT | {"tasks": tasks}, tmp_path))  # type: ignore[arg-type]
    assert run.axes == {"tasks/task": "", "tasks/*": "tasks/task"}
    assert run.rows == [{"tasks/task": 0, "tasks/accuracy": 0.9}, {"tasks/task": 1, "tasks/accuracy": 0.8}]


def test_artifacts_have_names_that_wandb_takes() -> None:
    assert artifact_name(Path("tiny-iris_limit=30-s0-12345678")) == "tiny-iris_limit_30-s0-12345678"
    assert len(artifact_name(Path("x" * 200 + "-12345678"))) == 128


def test_classes_of_masks_are_a_table() -> None:
    told = [{"name": "disc", "test_pixels": 7, "iou": {"value": 0.5}}, {"name": "dot", "test_pixels": 0}]
    columns, rows, _ = tables({"classes": told}, Path())["classes"]
    assert columns == ["class", "pixels", "iou"]
    assert rows == [["disc", 7, 0.5], ["dot", 0, None]]
