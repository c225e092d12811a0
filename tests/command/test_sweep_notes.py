"""What a sweep keeps of its jobs: how many there are, how far they are, and what became of them."""

import os
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf
from run_folders import write_run

from probe.command import config as building
from probe.command.process import n_jobs
from probe.command.sweep import Outcome, begin, doubtful_choices, note, plan, progress, report, start


def test_progress_counts_jobs_of_all_processes(tmp_path: Path) -> None:
    launch = start(tmp_path, 12)
    notes = launch.notes
    plan(launch, [[f"head={i}"] for i in range(12)])
    for number in range(5):
        begin(notes, number)
    assert progress(notes) == "[ 0/12, 5 running]"
    note(notes, 1, Outcome("head=1", "done", seconds=3.0))
    note(notes, 3, Outcome("head=3", "failed", error="no", seconds=3.0))
    assert progress(notes) == "[ 2/12, 3 running, 1 failed, 10 s left]"


def test_a_launch_leaves_the_notes_of_those_that_live_and_removes_those_that_ended(tmp_path: Path) -> None:
    alive, ended, died = (start(tmp_path, 1) for _ in range(3))
    note(alive.notes, 0, Outcome("a", "failed", error="no"))
    ended.end()
    died.lock.release()
    os.utime(died.notes, (0, 0))
    for path in died.notes.iterdir():
        os.utime(path, (0, 0))
    for path in alive.notes.iterdir():  # a job of weeks, under the lock
        os.utime(path, (0, 0))
    os.utime(alive.notes, (0, 0))
    mine = start(tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == {alive.notes.name, mine.notes.name}


def test_jobs_that_left_no_word_are_told_and_are_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = start(tmp_path / ".sweep", 3).notes
    note(notes, 0, Outcome("a", "unfit", error="no"))
    assert report(notes, None) == 1
    assert "2 of unknown outcome" in capsys.readouterr().out


EXPERIMENT = {"dataset": "digits,iris", "head": "ncm,ridge", "seed": "0,1,2"}


@pytest.mark.parametrize(
    ("params", "words", "n"),
    [
        ({}, ["head=ncm,linear", "seed=0,1,2"], 6),
        ({}, ["head=glob(n*)", "seed=range(0,10,2)"], 3 * 5),
        ({}, ["head=glob(l*,exclude=[*_*])", "+x=choice(1,2,3)"], 2 * 3),
        ({}, ["head.Cs=[1,2],[3]", "seed=1", "hydra/launcher=joblib"], 2),
        (EXPERIMENT, [], 2 * 2 * 3),
        (EXPERIMENT, ["dataset=iris,wine,digits"], 3 * 2 * 3),
        (EXPERIMENT, ["head=ncm", "dataset=iris"], 3),
        ({}, ["head.shrinkage=interval(0,1)"], None),
    ],
)
def test_a_sweep_knows_how_many_jobs_it_has(params: dict[str, str], words: list[str], n: int | None) -> None:
    config = OmegaConf.create({"hydra": {"sweeper": {"params": params}, "overrides": {"task": words}}})
    with hydra.initialize_config_dir(str(building.CONF), version_base="1.3"):
        assert n_jobs(config) == n


def test_choices_at_an_end_and_among_equals_are_counted_for_each_head(tmp_path: Path) -> None:
    chosen = {"on": "validation", "searched": [], "chosen": {"C": 1.0}}
    end = "C is the largest of 10 searched"
    remarks = [[end, "3 of 10 candidates score the same"], ["2 of 10 candidates score the same"], []]
    folders = [
        write_run(tmp_path, head="linear", seed=seed, selection={**chosen, "remarks": told})
        for seed, told in enumerate(remarks)
    ]
    folders.append(write_run(tmp_path, head="ncm"))
    assert doubtful_choices(folders) == [
        f"linear: {end}, in 1 of 3 runs",
        "linear: several of 10 candidates score the same, in 2 of 3 runs",
    ]
