"""The run folder under several writers: one computes, a folder is whole or absent, the first stays."""

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.identity import IdentityBackbone
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run_once
from probe.features.store import FeatureStore
from probe.heads.ncm import NearestClassMean
from probe.protocols.full import Full
from probe.results import writer
from probe.results.reader import find_complete, read_result
from probe.results.schema import SCHEMA, UNFINISHED, run_facts


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
    assert list((tmp_path / "runs" / UNFINISHED).iterdir()) == []


class Fitted:
    """Stands for a fitted head."""

    def __init__(self, content: bytes = b"head"):
        self.content = content

    def save(self, path: Path) -> None:
        path.write_bytes(self.content)


def write(folder: Path, value: float, *, replace: bool = False, head: Any = None, **more: Any) -> None:
    result = {name: {} for name in ("config", "labels", "dataset", "protocol", "backbone", "head", "features")}
    result |= {"metrics": {}, "seconds": {}, "schema": SCHEMA, "command": "", "seed": 0, "value": value}
    facts = run_facts({"seed": 0}, "", "now")
    result["run"] = facts | {"name": f"run-{facts['digest'][:8]}"}
    writer.write_run(folder, result, {"row": np.arange(3)}, head or Fitted(), replace=replace, **more)


def value(folder: Path) -> float:
    return read_result(folder)["value"]


def test_the_first_of_two_writers_stays(tmp_path: Path) -> None:
    write(tmp_path / "run", 1)
    write(tmp_path / "run", 2)
    assert value(tmp_path / "run") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [UNFINISHED, "run"]
    assert list((tmp_path / UNFINISHED).iterdir()) == []


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
    assert list((tmp_path / UNFINISHED).iterdir()) == []


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / UNFINISHED / "run.123.partial"
    left.mkdir(parents=True)
    (tmp_path / UNFINISHED / "run.lock").touch()
    with writer.claim(tmp_path / "run"):
        assert not left.exists()
    assert list((tmp_path / UNFINISHED).iterdir()) == []


def test_without_locks_a_run_is_still_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with writer.claim(tmp_path / "run"):
        write(tmp_path / "run", 1)
    assert value(tmp_path / "run") == 1


def test_the_same_run_is_the_same_bytes(tmp_path: Path) -> None:
    head = NearestClassMean().fit(np.eye(4), np.array([0, 0, 1, 1]))
    for name in ("one", "two"):
        write(tmp_path / name / "run", 1, head=head, validation={"row": np.arange(2)})
    files = sorted(path.name for path in (tmp_path / "one" / "run").iterdir())
    assert files == ["head.safetensors", "predictions.safetensors", "result.json", "validation.safetensors"]
    for name in files:
        assert (tmp_path / "one/run" / name).read_bytes() == (tmp_path / "two/run" / name).read_bytes()


def test_the_record_names_every_file_with_its_size(tmp_path: Path) -> None:
    def more(partial: Path) -> None:
        (partial / "rows.json").write_text("{}")

    write(tmp_path / "run", 1, more=more)
    named = read_result(tmp_path / "run")["files"]
    others = {p.name: p.stat().st_size for p in (tmp_path / "run").iterdir() if p.name != "result.json"}
    assert {name: facts["bytes"] for name, facts in named.items()} == others


def test_all_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    replaced: list[int] = []
    monkeypatch.setattr(writer.os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    rename = os.replace
    monkeypatch.setattr(writer.os, "replace", lambda a, b: (replaced.append(len(synced)), rename(a, b))[1])
    write(tmp_path / "run", 1)
    before = {Path(path).name for path in synced[: replaced[0]]}
    assert {"result.json", "predictions.safetensors", "head.safetensors"} <= before
    assert any(name.endswith(".partial") for name in before)
    assert synced[-1] == str(tmp_path)


@pytest.mark.parametrize("name", ["predictions.safetensors", "head.safetensors", "result.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_run_that_lacks_something_is_made_again(tmp_path: Path, name: str, damage: str) -> None:
    write(tmp_path / "run", 1)
    path = tmp_path / "run" / name
    path.write_bytes(path.read_bytes()[:-1]) if damage == "cut" else path.unlink()
    assert find_complete(tmp_path / "run") is None
    write(tmp_path / "run", 2)
    assert value(tmp_path / "run") == 2
