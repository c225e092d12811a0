from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_folders import edit, write_run

from probe.core.base import digest
from probe.core.errors import InputError
from probe.leaderboard.index import read_folders
from probe.results.schema import AGAIN

Add = Callable[..., Path]


def reasons(root: Path) -> dict[str, str]:
    return {Path(problem.folder).name: problem.reason for problem in read_folders([root]).problems}


def test_every_run_is_read_at_any_depth(add: Add, tmp_path: Path) -> None:
    add(seed=0, folder="a")
    add(seed=1, folder="b/c/d")
    assert list(read_folders([tmp_path]).frame["seed"]) == [0, 1]


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere: give folders that hold runs"):
        read_folders([tmp_path / "nowhere"])


def test_an_empty_folder_says_what_to_run_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no complete run: first run, for example, probe backbone=tiny"):
        read_folders([tmp_path])


def test_failed_and_half_written_runs_are_listed_and_not_counted(add: Add, tmp_path: Path) -> None:
    add(seed=0)
    failed = add(seed=1, folder="failed")
    (failed / "result.json").unlink()
    (failed / "error.txt").write_text("Traceback\n\nValueError: the reason\n")
    (add(seed=2, folder="running") / "result.json").unlink()
    (add(seed=3, folder="truncated") / "result.json").write_text('{"schema": 1, "run": {')
    half = add(seed=4, folder="half") / "predictions.safetensors"
    half.write_bytes(half.read_bytes()[:-9])
    (add(seed=5, folder="bare") / "predictions.safetensors").unlink()
    found = read_folders([tmp_path / "runs"])
    assert list(found.frame["seed"]) == [0]
    assert reasons(tmp_path / "runs") == {
        "failed": "failed: ValueError: the reason",
        "running": "half-written: it has no result.json yet",
        "truncated": f"result.json is not JSON: half-written or edited; {AGAIN}",
        "half": f"predictions.safetensors is half-written or damaged: {AGAIN}",
        "bare": f"predictions.safetensors is missing: {AGAIN}",
    }


def test_foreign_and_older_results_are_listed_and_not_counted(add: Add, tmp_path: Path) -> None:
    add(seed=0)
    (add(seed=1, folder="foreign") / "result.json").write_text('{"accuracy": 1.0}')
    (add(seed=2, folder="list") / "result.json").write_text("[1]")
    edit(add(seed=3, folder="older"), schema=0)
    edit(add(seed=4, folder="newer"), schema=7)
    edit(add(seed=5, folder="no_metrics"), metrics=None)
    found = reasons(tmp_path / "runs")
    assert "was not written by probe" in found["foreign"]
    assert "was not written by probe" in found["list"]
    assert found["older"] == "schema 0 is older, this version reads 2: run it again"
    assert found["newer"].startswith("schema 7 is unknown")
    assert "no 'metrics' of type dict" in found["no_metrics"]
    assert len(found) == 5


@pytest.mark.parametrize("metric", ["top1", "top5", "mean_per_class", "log_loss", "ece_equal_mass", "aurc"])
def test_a_metric_edited_by_hand_is_found_out(add: Add, tmp_path: Path, metric: str) -> None:
    add(seed=0)
    edited = add(seed=1, folder="edited")
    metrics = json.loads((edited / "result.json").read_text())["metrics"]
    metrics[metric]["value"] += 0.004
    edit(edited, metrics=metrics)
    assert "edited by hand" in reasons(tmp_path / "runs")["edited"]
    assert metric in reasons(tmp_path / "runs")["edited"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": {"backbone": "tiny"}}, "no label for dataset, head, protocol"),
        (
            {"run": {"name": "tiny-0badf00d", "digest": "1" * 32, "determinants": ["seed"]}},
            "which its seed do not give",
        ),
        ({"run": {"name": "tiny-0badf00d", "digest": "1" * 32}}, "does not say what determines the run"),
        (
            {"run": {"name": "tiny-0badf00d", "digest": digest({"seed": 1}), "determinants": ["seed"]}},
            "does not end in its digest",
        ),
        ({"metrics": {"top1": {"value": float("nan")}}}, "expected a finite number"),
        ({"metrics": {"top1": {"value": "0.9"}}}, "expected a finite number"),
        ({"seconds": {"fit": float("nan")}}, "seconds.fit is nan, expected a finite number"),
        ({"metrics": {"top1": 0.9}}, "lacks a field or holds a wrong type"),
        ({"dataset": {}}, "lacks a field or holds a wrong type"),
        ({"seed": "0"}, "no 'seed' of type int"),
    ],
)
def test_damaged_results_say_what_is_wrong(add: Add, tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    add(seed=0)
    edit(add(seed=1, folder="edited"), **changes)
    assert reason in reasons(tmp_path / "runs")["edited"]


def test_predictions_of_another_run_are_found_out(add: Add, tmp_path: Path) -> None:
    first, second = add(seed=0), add(seed=1, n_test=100, folder="mixed")
    shutil.copy(first / "predictions.safetensors", second)
    assert reasons(tmp_path / "runs")["mixed"].startswith("predictions.safetensors is half-written or damaged")
    edit(second)
    assert "has 200 rows, result.json says 100" in reasons(tmp_path / "runs")["mixed"]


def test_a_record_edited_without_its_digest_is_found_out(add: Add, tmp_path: Path) -> None:
    add(seed=0)
    path = add(seed=1, folder="edited") / "result.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    assert reasons(tmp_path / "runs") == {
        "edited": f"result.json is not as the run wrote it: damaged or edited by hand; {AGAIN}"
    }


def test_copies_of_a_run_are_counted_once(add: Add, tmp_path: Path) -> None:
    run = add(seed=0)
    shutil.copytree(run, tmp_path / "other" / "machine" / run.name)
    found = read_folders([tmp_path / "runs", tmp_path / "other"])
    assert len(found.frame) == 1
    assert found.notes == ["1 copies of runs were counted once"]


def test_a_folder_given_twice_counts_once(board: Path) -> None:
    found = read_folders([board, board, board.parent])
    assert len(found.frame) == 36
    assert found.notes == []


def test_a_single_run_folder_can_be_given(add: Add) -> None:
    run = add(seed=3)
    assert list(read_folders([run]).frame["seed"]) == [3]
    assert not list(run.glob(".leaderboard*"))


def test_run_folders_and_folders_of_runs_may_be_mixed(board: Path, add: Add, tmp_path: Path) -> None:
    apart = add("tiny", "late", folder="../apart/one")
    broken = add("tiny", "later", folder="../apart/two")
    (broken / "predictions.safetensors").unlink()
    found = read_folders([apart, board, broken, sorted(path for path in board.iterdir() if path.is_dir())[0]])
    assert len(found.frame) == 37
    assert [Path(problem.folder).name for problem in found.problems] == ["two"]
    assert all(Path(folder).is_dir() for folder in found.frame["folder"])
    assert found.notes == []


def test_runs_may_move(board: Path) -> None:
    before = read_folders([board]).frame.drop(columns="folder")
    after = read_folders([board.rename(board.with_name("elsewhere"))]).frame.drop(columns="folder")
    assert before.equals(after)


def test_links_in_circles_are_not_followed(add: Add, tmp_path: Path) -> None:
    add(seed=0)
    (tmp_path / "runs" / "latest").symlink_to(tmp_path / "runs", target_is_directory=True)
    assert len(read_folders([tmp_path]).frame) == 1


def test_a_folder_that_cannot_be_opened_is_listed(add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(seed=0)
    (tmp_path / "runs" / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("probe.results.reader.os.scandir", refuse)
    assert reasons(tmp_path / "runs") == {"locked": "the folder cannot be opened"}


def test_skipped_test_rows_may_be_counted_in_n_test_or_not(add: Add, tmp_path: Path) -> None:
    run = add(seed=0, n_test=200)
    edit(run, skipped_rows={"train": 7, "test": 3})
    assert len(read_folders([tmp_path]).frame) == 1
    result = json.loads((run / "result.json").read_text())
    edit(run, protocol=result["protocol"] | {"n_test": 203})
    assert len(read_folders([tmp_path]).frame) == 1
    edit(run, protocol=result["protocol"] | {"n_test": 204})
    with pytest.raises(InputError, match=r"has 200 rows, result.json says 204 with 3 skipped"):
        read_folders([tmp_path])


def test_write_run_of_one_seed_is_reproducible(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    assert (a / "result.json").read_text() == (b / "result.json").read_text()
