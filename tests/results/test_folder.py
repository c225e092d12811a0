"""The run folder under several writers: one computes, a folder is whole or absent, the first stays."""

import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.identity import IdentityBackbone
from probe.core.targets.one_class import OneClass
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run_once
from probe.features.store import FeatureStore
from probe.heads.ncm import NearestClassMean
from probe.metrics.scores import score_rows
from probe.protocols.full import Full
from probe.results import folder as record


class Slow(NearestClassMean):
    """Leaves a file per fit, in the folder that the environment names."""

    def fit(self, X: Any, y: Any, *, validation: Any = None) -> Any:
        (Path(os.environ["FITS"]) / f"{os.getpid()}-{time.time_ns()}").touch()
        time.sleep(0.5)
        return super().fit(X, y, validation=validation)


def ask(folder: Path, force: bool = False) -> bool:
    (folder / f"here-{os.getpid()}").touch()
    while len(list(folder.glob("here-*"))) < 2:  # the other may still be importing
        time.sleep(0.01)
    store = FeatureStore(folder / "cache")
    request = Run(IdentityBackbone(), load(name="iris"), Full(), Slow(), store, folder / "runs", device="cpu",
                  force=force)  # fmt: skip
    return run_once(request)[1]


@pytest.mark.parametrize("force", [False, True])
def test_processes_that_ask_at_once_share_one_computation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    (tmp_path / "fits").mkdir()
    monkeypatch.setenv("FITS", str(tmp_path / "fits"))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.starmap(ask, [(tmp_path, force)] * 2, chunksize=1)
    assert sorted(made) == [False, True]
    assert len(list((tmp_path / "fits").iterdir())) == 1
    assert list((tmp_path / "runs" / record.UNFINISHED).iterdir()) == []


class Fitted:
    """Stands for a fitted head."""

    def __init__(self, content: bytes = b"head"):
        self.content = content

    def save(self, path: Path) -> None:
        path.write_bytes(self.content)


def write(folder: Path, value: float, *, replace: bool = False, head: Any = None) -> None:
    result = {"schema": record.SCHEMA, "value": value}
    record.write_run(folder, result, {"row": np.arange(3)}, head or Fitted(), replace=replace)


def value(folder: Path) -> float:
    return json.loads((folder / "result.json").read_text())["value"]


def test_the_first_of_two_writers_stays(tmp_path: Path) -> None:
    write(tmp_path / "run", 1)
    write(tmp_path / "run", 2)
    assert value(tmp_path / "run") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [record.UNFINISHED, "run"]
    assert list((tmp_path / record.UNFINISHED).iterdir()) == []


def test_force_replaces_a_whole_folder(tmp_path: Path) -> None:
    write(tmp_path / "run", 1)
    (tmp_path / "run" / "note.txt").write_text("of the old run")
    write(tmp_path / "run", 2, replace=True)
    assert value(tmp_path / "run") == 2
    assert not (tmp_path / "run" / "note.txt").exists()


@pytest.mark.parametrize("rest", ["error.txt", "result.json"])
def test_what_is_no_complete_run_makes_room(tmp_path: Path, rest: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / rest).write_text("half")
    write(tmp_path / "run", 1)
    assert value(tmp_path / "run") == 1
    assert not (tmp_path / "run" / "error.txt").exists()


def test_a_writer_that_fails_leaves_the_old_run(tmp_path: Path) -> None:
    class Full_(Fitted):
        def save(self, path: Path) -> None:
            raise OSError(28, "No space left on device")

    write(tmp_path / "run", 1)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "run", 2, replace=True, head=Full_())
    assert value(tmp_path / "run") == 1
    assert list((tmp_path / record.UNFINISHED).iterdir()) == []


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / record.UNFINISHED / "run.123.partial"
    left.mkdir(parents=True)
    (tmp_path / record.UNFINISHED / "run.lock").touch()
    with record.claim(tmp_path / "run"):
        assert not left.exists()
    assert list((tmp_path / record.UNFINISHED).iterdir()) == []


def test_without_locks_a_run_is_still_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with record.claim(tmp_path / "run"):
        write(tmp_path / "run", 1)
    assert value(tmp_path / "run") == 1


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": 0}', '"text"'])
def test_foreign_results_are_no_runs(tmp_path: Path, content: str) -> None:
    (tmp_path / "result.json").write_text(content)
    assert record.read_result(tmp_path) is None


def test_changes_names_the_leaves() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": float("nan")}
    assert record.changes(old, {"a": {"b": 1, "c": [1, 2]}, "d": float("nan")}) == []
    assert record.changes(old, {"a": {"b": 2, "c": [1, 3]}, "d": float("nan"), "e": "x"}) == [
        "a.b: was 1, is 2",
        "a.c: was [1, 2], is [1, 3]",
        "e: was None, is x",
    ]


def test_a_label_whose_class_was_never_trained_has_the_last_rank_as_in_the_metrics() -> None:
    logits = np.array([[0.0, -np.inf, -np.inf], [1.0, 0.0, -np.inf]], dtype=np.float32)
    labels = np.array([1, 1])
    kept = record.prediction_arrays(OneClass(), logits, labels, np.arange(2), None, {})
    np.testing.assert_array_equal(kept["label_rank"], [2, 1])
    np.testing.assert_array_equal(kept["label_rank"], score_rows(logits, labels).label_rank)
