"""`probe reproduce`: runs a record again and says what differs; run folders are theirs wherever they are moved."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf
from places import ROOT
from safetensors.numpy import load_file, save_file

from probe.command import cli
from probe.command import config as building
from probe.experiment import run as experiment
from probe.results.schema import AGAIN, dumps


def make(cwd: Path, *overrides: str) -> Path:
    """A run as the command makes it, without the command."""
    os.chdir(cwd)
    with hydra.initialize_config_dir(str(building.CONF), version_base="1.3"):
        config = hydra.compose("config", ["backbone=identity", "dataset=iris", *overrides])
    container = OmegaConf.to_container(config, resolve=True)
    return cwd / experiment.run(building.build(container, "probe " + " ".join(overrides)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd, before = tmp_path_factory.mktemp("made"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBE_CACHE", str(cwd / "cache"))
        for head in ("ncm", "linear"):
            make(cwd, f"head={head}", "name=t")
    os.chdir(before)
    return cwd / "runs" / "t"


@pytest.fixture
def board(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the runs elsewhere, as after a move to another machine: other place, other folder, empty cache."""
    shutil.copytree(made, tmp_path / "elsewhere" / "Ω moved")
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Path("elsewhere", "Ω moved")


@pytest.fixture
def run(board: Path) -> Path:
    (found,) = board.glob("*-linear-*")
    return found


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    result = json.loads((folder / "result.json").read_text())
    change(result)
    (folder / "result.json").write_bytes(dumps(result))


def reproduce(*folders: Path) -> int:
    return cli.subcommand("reproduce", [str(folder) for folder in folders])


def test_a_moved_run_comes_out_in_the_same_bits(board: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folders = sorted(board.glob("[!.]*"))
    before = {path: path.read_bytes() for path in board.rglob("*") if path.is_file()}
    assert reproduce(*folders) == 0
    assert capfd.readouterr().out == "".join(f"{folder}: same bits\n" for folder in folders)
    assert before == {path: path.read_bytes() for path in board.rglob("*") if path.is_file()}
    assert len(folders) == 2


def test_other_versions_are_told_though_the_bits_are_the_same(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit(run, lambda result: result["versions"].update(numpy="1.0"))
    assert reproduce(run) == 0
    assert f"{run}: same bits\n  although versions.numpy: was 1.0, is {np.__version__}\n" in capfd.readouterr().out


def test_an_edited_metric_is_told(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit(run, lambda result: result["metrics"]["top1"].update(value=0.999))
    assert reproduce(run) == 1
    told = capfd.readouterr().out
    assert f"{run}: differs\n  metrics.top1.value: was 0.999, is 0." in told
    assert "nothing that the record tells explains it: was the folder edited?" in told


def test_an_edited_interval_is_told(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit(run, lambda result: result["metrics"]["top1"].update(low=0.998))
    assert reproduce(run) == 1
    assert "metrics.top1.low: was 0.998" in capfd.readouterr().out


def test_a_difference_comes_with_its_possible_causes(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def change(result: dict[str, Any]) -> None:
        result["metrics"]["top1"]["value"] = 0.5
        result["versions"]["torch"] = "1.0"
        result["features"]["train"] = "another digest"

    edit(run, change)
    assert reproduce(run) == 1
    told = capfd.readouterr().out
    assert "  possible cause: versions.torch: was 1.0, is " in told
    assert "  possible cause: features.train: was another digest, is " in told
    assert "was the folder edited" not in told


def test_an_edited_configuration_is_another_run(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit(run, lambda result: result["config"]["head"].update(scaling="l2"))
    assert reproduce(run) == 1
    told = capfd.readouterr().out
    assert "digest: was " in told
    assert "possible cause: head.parameters.scaling: was none, is l2" in told


def test_edited_predictions_are_told(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = load_file(run / "predictions.safetensors")
    rows["predicted"][0] += 1
    save_file(rows, run / "predictions.safetensors")
    (run / "head.safetensors").unlink()
    assert reproduce(run) == 1
    told = capfd.readouterr().out
    assert "  predictions.safetensors: other bits\n  head.safetensors: missing or damaged\n" in told


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "result.json cannot be read (No such file or directory): give the folder of a complete run"),
        ("{", f"result.json is not JSON: half-written or edited; {AGAIN}"),
        ('{"schema": 0}', "schema 0 is older, this version reads 2: run it again"),
    ],
)
def test_a_foreign_folder_gets_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str | None, reason: str
) -> None:
    if content:
        (tmp_path / "result.json").write_text(content)
    assert reproduce(tmp_path) == 1
    assert capfd.readouterr().err == f"probe reproduce: {tmp_path}: {reason}\n"


def test_a_record_without_its_configuration_gets_one_sentence(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit(run, lambda result: [result["config"].pop(name) for name in ("head", "seed")])
    assert reproduce(run) == 1
    assert capfd.readouterr().err == (
        f"probe reproduce: the record in {run} lacks head, seed of the configuration, so that it cannot be run again: "
        "give a run that the probe command made\n"
    )


def test_nothing_in_a_run_folder_says_where_it_was_made(made: Path) -> None:
    places = [str(made.parent.parent).encode(), str(ROOT).encode(), str(Path.home()).encode() + b"/"]
    for path in made.rglob("*"):
        if path.is_file():
            assert not [place for place in places if place in path.read_bytes()], path


def table(capfd: pytest.CaptureFixture[str], *folders: Path) -> str:
    capfd.readouterr()
    assert cli.subcommand("leaderboard", [str(folder) for folder in folders]) == 0
    return capfd.readouterr().out


def test_moved_zipped_and_merged_runs_give_the_same_table(
    made: Path, board: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = table(capfd, made)
    assert "linear" in before
    assert "ncm" in before
    assert table(capfd, board) == before
    shutil.make_archive("runs", "zip", board)
    shutil.unpack_archive("runs.zip", "unzipped")
    assert table(capfd, Path("unzipped")) == before
    # Two machines, one run in common.
    for machine, kept in (("a", "*"), ("b", "*-ncm-*")):
        for folder in board.glob(kept):
            if folder.is_dir() and not folder.name.startswith("."):
                shutil.copytree(folder, tmp_path / machine / folder.name)
    assert table(capfd, Path("a"), Path("b")).startswith(before)  # and a note that one was counted once
    shutil.copytree("b", "a", dirs_exist_ok=True)
    assert table(capfd, Path("a")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "backbone=tniy"], "probe check: there is no backbone=tniy: did you mean tiny?"),
        (["describe", "dataset=digit"], "probe describe: there is no dataset=digit: did you mean digits?"),
        (["describe", "head=linear", "head.cs=[1]"], "probe describe: head has no cs: did you mean Cs?"),
    ],
)
def test_a_subcommand_answers_to_what_is_misspelled_as_a_run_does(
    words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.subcommand(words[0], words[1:]) == 1
    assert capfd.readouterr().err.startswith(said)
