"""Controls of runs: each is the run with one thing taken away; from the command and from Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import command
from language_models import save
from places import ROOT
from torch import nn

import probe
from probe.backbones.tiny import WEIGHTS
from probe.command import cli
from probe.command.config import build, compose
from probe.command.controls import KINDS, controlled, controls_of, facts
from probe.core.errors import DoesNotFit, InputError
from probe.results.reader import read_result


@pytest.fixture(autouse=True)
def here(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path_factory.getbasetemp() / "cache-of-controls"))


def run(control: str | None, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"dataset": "digits", "head": "ncm", "limit": 100, "quiet": True, **more}
    return read_result(probe.run(control=control, **given).folder)


def test_each_kind_takes_one_thing_away() -> None:
    plain, majority, raw, random, shuffled = (run(kind) for kind in (None, *KINDS))
    assert plain["control"]["kind"] == ""
    assert [r["control"]["kind"] for r in (majority, raw, random, shuffled)] == [k.replace("_", " ") for k in KINDS]
    assert majority["labels"]["head"] == "majority_class"
    assert raw["labels"]["backbone"] == majority["labels"]["backbone"] == "raw"
    assert random["labels"]["backbone"] == "tiny-random"
    assert shuffled["labels"]["head"] == "ncm (shuffled labels)"
    assert shuffled["shuffle_labels"] is True
    for other in (majority, raw, random, shuffled):
        assert other["dataset"] == plain["dataset"]
        assert other["protocol"]["parameters"] == plain["protocol"]["parameters"]
    assert (
        plain["control"]["head"] == raw["control"]["head"] == random["control"]["head"] == shuffled["control"]["head"]
    )
    assert plain["control"]["architecture"] == random["control"]["architecture"]
    assert plain["control"]["backbone"] == shuffled["control"]["backbone"] != random["control"]["backbone"]


def test_a_control_is_the_run_that_says_the_same_otherwise_and_is_known_as_one_either_way() -> None:
    same = [
        ({"control": "random_weights"}, {"backbone": ("tiny", {"pretrained": False})}),
        ({"control": "raw_input"}, {"backbone": "raw"}),
        ({"control": "majority"}, {"backbone": "raw", "head": "majority_class"}),
    ]
    for control, plain in same:
        by_control, by_hand = run(**control), run(None, force=True, **plain)
        assert by_control["run"]["digest"] == by_hand["run"]["digest"]
        assert by_control["control"] == by_hand["control"]


def test_weights_of_a_checkpoint_have_the_random_weights_of_their_architecture(tmp_path: Path) -> None:
    given = {"backbone": ("tiny", {"checkpoint": str(WEIGHTS)})}
    assert run(None, **given)["control"]["architecture"] == run("random_weights")["control"]["architecture"]
    assert run("random_weights", **given)["run"]["digest"] == run("random_weights")["run"]["digest"]


def test_a_layer_is_held_against_the_same_layer_of_random_weights() -> None:
    taps = {"backbone": ("tiny", {"taps": ["stages.1"]}), "reads": {"pooled": "stages.1"}}
    layer, random, whole = run(None, **taps), run("random_weights", **taps), run("random_weights")
    assert layer["control"]["architecture"] == random["control"]["architecture"] != whole["control"]["architecture"]
    assert run("raw_input", **taps)["run"]["digest"] == run("raw_input")["run"]["digest"]


def test_a_network_with_a_checkpoint_has_random_weights_and_one_without_does_not_claim_them() -> None:
    plain = compose(["backbone=module", "backbone.target=torch.nn:Identity", "head=ncm", "dataset=digits"])
    given = {**plain, "control": "random_weights"}
    node = {**given["backbone"], "checkpoint": "weights.pt"}
    changed, _ = controlled({**given, "backbone": node}, {}, None)  # type: ignore[arg-type]
    assert changed["backbone"]["checkpoint"] is None
    assert facts(plain, {}, [])["kind"] == ""
    assert facts({**given, "backbone": node}, {}, [])["kind"] == "random weights"
    with pytest.raises(
        DoesNotFit, match=r"ModuleBackbone with these parameters it is not known how to draw its weights"
    ):
        controlled(given, {}, None)  # type: ignore[arg-type]


def test_a_network_from_python_has_all_controls_but_random_weights() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    given = (network, {"size": 8, "mean": [0.5], "std": [0.5], "name": "mine"})
    board = probe.sweep(given, "digits", "ncm", seeds=[0], limit=100, controls=True, quiet=True)
    assert set(board.frame["head"]) == {"ncm", "majority_class", "ncm (shuffled labels)"}
    assert len(board.unfit) == 1
    told = next(iter(board.unfit.values()))
    assert "from Python" in told
    assert "leave control=random_weights out" in told
    assert not board.failures


def test_rows_of_numbers_are_their_own_raw_input() -> None:
    with pytest.raises(DoesNotFit, match="a run with it is its own raw input: leave control=raw_input out"):
        run("raw_input", dataset="iris", limit=None)
    found = run("majority", dataset="iris", limit=None)
    assert found["labels"]["backbone"] == "identity"


def test_numbers_are_held_against_their_mean_over_the_training_rows() -> None:
    given = {"dataset": "diabetes", "limit": None}
    by_control = run("majority", **given)
    assert by_control["labels"]["head"] == "mean"
    assert by_control["control"]["kind"] == "majority"
    assert run(None, force=True, backbone="identity", **given | {"head": "mean"})["control"] == by_control["control"]


def test_depths_are_held_against_their_mean() -> None:
    found = run("majority", dataset=("depth_scenes", {"n_train": 30, "n_test": 10}), limit=None)
    assert found["labels"]["head"] == "mean"
    assert found["control"]["kind"] == "majority"


def test_masks_are_held_against_the_commonest_class_of_their_patches_and_have_no_raw_input() -> None:
    found = run("majority", dataset=("shapes", {"n_train": 30, "n_test": 10}), limit=None)
    assert found["labels"]["head"] == "majority_class"
    assert found["control"]["kind"] == "majority"
    with pytest.raises(DoesNotFit, match=r"no map of patches.*dataset shapes.*leave control=raw_input out"):
        run("raw_input", dataset=("shapes", {"n_train": 30, "n_test": 10}), limit=None)


def test_texts_are_counted_whatever_the_head_and_every_head_is_held_against_that(tmp_path: Path) -> None:
    texts = ("the match was won by the team", "shares fell as the bank lost money")
    for part in ("train", "test"):
        lines = [f"{texts[i % 2]} {part} {i},{('sport', 'money')[i % 2]}" for i in range(40)]
        (tmp_path / "news").mkdir(exist_ok=True)
        (tmp_path / "news" / f"{part}.csv").write_text("\n".join(["text,label", *lines]))
    news: Any = ("texts", {"path": str(tmp_path / "news")})
    found = run("raw_input", dataset=news, limit=None)
    assert found["metrics"]["top1"]["value"] == 1
    assert (found["labels"]["backbone"], found["labels"]["head"]) == ("raw", "tfidf_linear")
    assert found["control"]["kind"] == "raw input"
    by_hand = run(None, dataset=news, limit=None, backbone=("raw", {"rows": "texts"}), head="tfidf_linear", force=True)
    assert by_hand["run"]["digest"] == found["run"]["digest"]
    assert by_hand["control"] == found["control"]
    save(tmp_path / "bert", "bert")
    words = ("huggingface", {"name": str(tmp_path / "bert")})
    board = probe.sweep(words, news, ["ncm", "ridge"], seeds=[0], controls=True, quiet=True, name="texts")
    assert set(board.table.ranking["row"]) >= {"raw tfidf_linear", "raw majority_class", "huggingface/bert ncm"}
    assert "raw ncm" not in set(board.table.ranking["row"])
    cells = board.table.cells.set_index("row")
    assert "raw input" in cells["not_above"]["huggingface/bert ncm"]
    assert "raw input" in cells["not_above"]["huggingface/bert ridge"]


@pytest.mark.parametrize("kind", ["raw_input", "majority"])
def test_series_are_read_as_they_are_up_to_the_longest(tmp_path: Path, kind: str) -> None:
    header = "@classLabel true up down\n@data\n"
    rows = [f"{i % 2},{1 + i % 2}{',3' * (i % 3)}:{('up', 'down')[i % 2]}\n" for i in range(40)]
    for part in ("TRAIN", "TEST"):
        (tmp_path / f"a_{part}.ts").write_text(header + "".join(rows))
    given = {"dataset": ("ts", {"path": str(tmp_path)}), "backbone": ("rocket", {"lengths": [3]}), "limit": None}
    found = run(kind, **given)
    assert found["labels"]["backbone"] == "raw"
    assert found["metrics"]["top1"]["value"] == (1 if kind == "raw_input" else 0.5)


@pytest.mark.parametrize("head", ["linear", "ncm", "lda"])
def test_with_shuffled_labels_a_head_knows_nothing(head: str) -> None:
    shuffled = run("shuffled_labels", head=head, limit=None)
    assert shuffled["metrics"]["top1"]["value"] < 0.25
    assert shuffled["protocol"]["rows"] != run(None, head=head, limit=None)["protocol"]["rows"]


def test_a_sweep_with_controls_marks_what_is_not_better(tmp_path: Path) -> None:
    board = probe.sweep(datasets="digits", heads=["ncm", "lda"], seeds=[0, 1], controls=True, quiet=True)
    rows = set(board.table.ranking["row"])
    assert rows == {
        "tiny ncm", "tiny lda", "raw majority_class", "raw ncm", "raw lda", "tiny-random ncm", "tiny-random lda",
        "tiny ncm (shuffled labels)", "tiny lda (shuffled labels)",
    }  # fmt: skip
    found = board.table.cells.set_index("row")
    assert found["not_above"]["tiny ncm"] == "raw input"
    assert found["not_above"]["tiny lda"] == ""
    assert found["selectivity"]["tiny lda"] > 0.8
    assert (found["n_seeds"] == 2).all()
    again = probe.table(tmp_path / "runs").table.cells.set_index("row")
    assert again["not_above"].to_dict() == found["not_above"].to_dict()
    members = probe.ensemble(tmp_path / "runs", "vote")
    assert {row for row in members.table.ranking["row"]} == {"tiny ncm", "tiny lda", "tiny vote of 2"}
    assert any("14 runs are controls, and no members" in note for note in members.notes)


def test_random_weights_are_extracted_once_for_all_seeds_and_heads(tmp_path: Path) -> None:
    probe.sweep(datasets="digits", heads=["ncm", "lda"], seeds=[0, 1], limit=50, controls=True, quiet=True,
                cache=tmp_path / "cache")  # fmt: skip
    results = [read_result(path.parent) for path in (tmp_path / "runs").rglob("result.json")]
    extracted = {r["features"]["train"] for r in results if r["control"]["kind"] == "random weights"}
    assert len(extracted) == 1
    assert len({r["features"]["train"] for r in results}) == 3  # tiny, raw, tiny-random


def told(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return command(words, cwd, os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"})


def test_the_command_adds_controls_to_a_sweep_once_each(tmp_path: Path) -> None:
    done = told(tmp_path, "-m", "dataset=digits,iris", "head=ncm,lda", "seed=0,1", "limit=100", "controls=true")
    assert done.returncode == 0, done.stdout + done.stderr
    # 8 jobs; majority 2 x 2; raw input and random weights 8 each, of which iris passes over; shuffled labels 8
    assert "runs/default: " in done.stdout
    assert done.stdout.count("control=majority") == 4
    assert "[36/36" in done.stdout
    assert "8 unfit" in done.stdout
    assert "‡" in done.stdout
    assert "tiny-random" in (tmp_path / "runs/default/leaderboard.csv").read_text()
    one = told(tmp_path, "dataset=iris", "controls=true")
    assert one.returncode == 1
    assert "controls=true adds runs to a sweep, and this is a single one: write probe -m" in one.stderr
    assert told(tmp_path, "dataset=iris", "head=ncm", "control=majority").returncode == 0


def test_jobs_that_share_a_control_get_it_once() -> None:
    jobs = [["head=linear", "head.Cs=3", "seed=0"], ["head=ncm", "seed=0"], ["head=ncm", "seed=1"],
            ["head=ncm", "backbone=timm", "backbone.name=x", "seed=0"]]  # fmt: skip
    found = [words[-1] for words in controls_of(jobs)]
    count = {kind: found.count(f"control={kind}") for kind in KINDS}
    assert count == {"majority": 2, "raw_input": 3, "random_weights": 4, "shuffled_labels": 4}


def test_an_unknown_control_is_refused_and_so_are_tasks() -> None:
    with pytest.raises(
        InputError, match="control is 'noise', expected null or one of majority, raw_input, random_weig"
    ):
        run("noise")
    with pytest.raises(DoesNotFit, match="protocol class_incremental gives its rows task by task: leave it out"):
        run("shuffled_labels", protocol="class_incremental", limit=None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_is_reproduced_from_its_record(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    folder = probe.run(dataset="digits", head="ncm", control=kind, limit=100, quiet=True).folder
    assert cli.subcommand("reproduce", [str(folder)]) == 0, capfd.readouterr()


def test_standardised_features_are_reproduced(capfd: pytest.CaptureFixture[str]) -> None:
    folder = probe.run(dataset="iris", head="ncm", standardize=True, quiet=True).folder
    assert cli.subcommand("reproduce", [str(folder)]) == 0, capfd.readouterr()


def test_what_the_command_builds_is_what_python_builds() -> None:
    by_command = build(compose(["dataset=iris", "head=ncm", "control=majority"]), "probe …")
    assert type(by_command.head).__name__ == "MajorityClass"
    assert by_command.control["kind"] == "majority"
    assert by_command.config["head"]["_target_"].endswith("NearestClassMean")
