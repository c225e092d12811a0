"""Tasks of one srun: a cache that they do not share is noticed, and other weights are refused."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from probe.command import subcommands as commands
from probe.core.errors import InputError, StoreError
from probe.features.processes import steps
from probe.features.processes.ranks import Ranks
from probe.features.processes.steps import Step

WORDS = ["backbone=identity", "dataset=wine", "head=ncm"]


@pytest.fixture
def srun(monkeypatch):
    """The environment of a task of srun, as SLURM 22.05 sets it."""
    monkeypatch.setattr(steps, "MEET_SECONDS", 0.3)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)

    def start(task, n_tasks, **more):
        numbers = {"STEP_NUM_TASKS": n_tasks, "PROCID": task, "LOCALID": task, "JOB_ID": 7, "STEP_ID": 0} | more
        for name, number in numbers.items():
            monkeypatch.setenv(f"SLURM_{name}", str(number))
        monkeypatch.setenv("SLURM_CLUSTER_NAME", "tiny")
        monkeypatch.setenv("SLURMD_NODENAME", f"node{task}")

    return start


def meet(roots):
    """What each task answers: None, or the sentence that refuses it."""

    def answer(task):
        try:
            Step("s", task, len(roots)).meet(roots[task])
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(len(roots)) as pool:
        return list(pool.map(answer, range(len(roots))))


def test_tasks_that_share_a_cache_meet(tmp_path):
    assert meet([tmp_path] * 4) == [None] * 4
    assert meet([tmp_path] * 4) == [None] * 4  # the second command of the same step


def test_a_cache_that_is_not_shared_is_noticed_by_all_tasks(tmp_path, srun):
    srun(0, 3)
    here, there = tmp_path / "here", tmp_path / "there"
    for task, sentence in enumerate(meet([here, there, here])):
        own, unseen = (there, "0, 2") if task == 1 else (here, "1")
        assert sentence == (
            f"task {task} on node0 sees nothing of task {unseen} in the cache {own} after 0 s: set PROBE_CACHE to one "
            "folder that all nodes share, or look in srun's output why it did not start"
        )


def test_other_facts_are_refused_by_whoever_comes_later(tmp_path, srun):
    srun(0, 2)
    steps = [Step("s", task, 2) for task in (0, 1)]
    meet([tmp_path] * 2)
    steps[0].compare(tmp_path, "c", {"torch's version": "2.5.1"})
    steps[1].compare(tmp_path, "c", {"torch's version": "2.5.1"})
    with pytest.raises(InputError, match=r"torch's version is 2.6.0 at task 1 on node0 and 2.5.1 at task 0 on node0: "):
        steps[1].compare(tmp_path, "c", {"torch's version": "2.6.0"})


def test_tasks_that_were_told_to_do_other_things_are_not_compared(tmp_path):
    meet([tmp_path] * 2)
    Step("s", 0, 2).compare(tmp_path, "one command", {"the weights": "a"})
    Step("s", 1, 2).compare(tmp_path, "another", {"the weights": "b"})


def test_srun_s_environment_names_the_step(srun):
    srun(1, 4)
    ranks = Ranks.of_environment()
    assert (ranks.rank, ranks.n_ranks, ranks.local_rank, ranks.store) == (1, 4, 1, None)
    assert ranks.step == Step("tiny-7-0", 1, 4)
    srun(1, 4, RESTART_COUNT=2)
    assert Ranks.of_environment().step.name == "tiny-7-0-2"
    srun(0, 1)
    assert Ranks.of_environment() == Ranks()


def test_ranks_that_torchrun_started_under_srun_are_torchrun_s(srun, monkeypatch):
    srun(0, 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(InputError, match="WORLD_SIZE=2, but the ranks cannot be reached"):
        Ranks.of_environment()


def test_a_number_that_is_none_is_refused(srun, monkeypatch):
    srun(0, "two")
    with pytest.raises(InputError, match="the environment says SLURM_STEP_NUM_TASKS=two, expected a number: unset it"):
        Ranks.of_environment()


def test_the_command_refuses_a_cache_that_is_not_shared_before_it_reads_data(tmp_path, srun, monkeypatch):
    srun(0, 2)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path))
    monkeypatch.setattr(commands, "prepare", lambda config: pytest.fail("prepared"))
    with pytest.raises(InputError, match=f"task 0 on node0 sees nothing of task 1 in the cache {tmp_path} after"):
        commands.extract(WORDS)


@pytest.fixture
def met(tmp_path, monkeypatch):
    """A cache in which both tasks of step tiny-7-0 have been."""
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path))
    folder = tmp_path / "steps" / "tiny-7-0"
    folder.mkdir(parents=True)
    for task in (0, 1):
        (folder / str(task)).touch()


@pytest.mark.usefixtures("met")
def test_only_the_first_task_speaks(srun, capsys):
    for task in (1, 0):
        srun(task, 2)
        commands.extract(WORDS)
        assert capsys.readouterr().out.count("rows of pooled") == (0 if task else 2)


@pytest.mark.usefixtures("met")
def test_another_version_in_one_task_is_refused_by_the_command(srun, monkeypatch):
    srun(0, 2)
    commands.extract(WORDS)
    srun(1, 2)
    monkeypatch.setattr("probe.experiment.extracting.versions", lambda: {"torch's version": "0"})
    with pytest.raises(InputError, match=r"torch's version is 0 at task 1 on node1 and .* at task 0 on node0: "):
        commands.extract(WORDS)


def test_steps_of_a_season_ago_are_forgotten(tmp_path):
    old = tmp_path / "steps" / "old"
    old.mkdir(parents=True)
    long_ago = time.time() - steps.KEEP_SECONDS - 1
    os.utime(old, (long_ago, long_ago))
    meet([tmp_path] * 2)
    assert [path.name for path in (tmp_path / "steps").iterdir()] == ["s"]


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "steps").write_text("")
    with pytest.raises(StoreError, match=f"the cache {tmp_path} cannot be written"):
        Step("s", 0, 2).meet(tmp_path)
