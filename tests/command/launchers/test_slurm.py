"""Sweeps through submitit, by its local executor and on a cluster of SLURM, and extraction under srun.

Where there is a cluster: `pytest -m slow -k cluster --basetemp=<a folder that its nodes share>`; partition and
account are taken from SBATCH_PARTITION, SLURM_PARTITION, SBATCH_ACCOUNT and SLURM_ACCOUNT.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid

import hydra
import pytest
from places import ROOT

from probe.command.config import CONF
from probe.command.launchers import slurm
from probe.core.errors import InputError

# Writes down the rows of each batch; 88 and 90 rows take 9 seconds together. The task MORTAL of srun dies on the way.
SLOW = """
import os
import signal
import time
import uuid
from probe.backbones.identity import IdentityBackbone

class Slow(IdentityBackbone):
    def extract(self, batch, kinds):
        with open("rows", "a") as file:
            file.write(f"{len(batch)}\\n")
        time.sleep(0.1)
        self.n_batches = getattr(self, "n_batches", 0) + 1
        if self.n_batches == 10 and os.environ.get("SLURM_PROCID") == os.environ.get("MORTAL", "none"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract(batch, kinds)
"""
EXTRACTION = ["backbone=identity", "backbone._target_=slow.Slow", "features.batch_size=2", "dataset=wine"]
SWEEP = ["-m", "name=t", *EXTRACTION, "head=ncm,naive_bayes"]
SMALL = ["hydra/launcher=slurm_cpu", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"]


@pytest.mark.parametrize("preset", ["slurm_cpu", "slurm_gpu"])
def test_presets_fit_the_installed_launcher(preset):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", [f"hydra/launcher={preset}"], return_hydra_config=True).hydra.launcher
    assert config._target_.endswith("SlurmLauncher")
    assert config.max_num_timeout > 0
    assert config.gpus_per_node == (1 if preset == "slurm_gpu" else None)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stands in for SLURM's commands: `commands(sbatch="echo 1")`; those that are not named are missing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "cp"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))

    def make(**scripts):
        for name, script in scripts.items():
            (folder / name).write_text(f"#!{folder}/bash\n{script}\n")
            (folder / name).chmod(0o755)

    return make


UP = "echo 'Slurmctld(primary) at head is UP'"
DOWN = "echo 'Slurmctld(primary) at head is DOWN'; echo '*****'; exit 1"


def test_a_cluster_that_answers_is_taken(commands):
    commands(sbatch="", srun="", sacct="", scontrol=f"echo 'Slurmctld(primary) at a is DOWN'; {UP}")
    assert slurm.check() == ""


@pytest.mark.parametrize(
    ("scripts", "sentence"),
    [
        ({}, r"this machine has no sbatch and no srun, with which SLURM takes jobs: start .*=submitit_local$"),
        ({"sbatch": "", "scontrol": UP}, r"this machine has no srun, with which"),
        (
            {"sbatch": "", "srun": "", "scontrol": DOWN},
            r"answers \(Slurmctld\(primary\) at head is DOWN\): see `scontrol",
        ),
        ({"sbatch": "", "srun": "", "scontrol": "echo no slurm.conf >&2; exit 1"}, r"answers \(no slurm.conf\): see"),
    ],
)
def test_no_cluster_is_said_with_what_was_tried(commands, scripts, sentence):
    commands(**scripts)
    with pytest.raises(InputError, match=sentence):
        slurm.check()


def test_a_cluster_that_keeps_no_account_of_jobs_is_warned_of(commands):
    commands(sbatch="", srun="", scontrol=UP, sacct="echo Slurm accounting storage is disabled >&2; exit 1")
    assert slurm.check().startswith("this cluster keeps no account of jobs (sacct does not answer): one that dies")


def run_sweep(cwd, *words):
    words = [sys.executable, "-m", "probe", *SWEEP, *SMALL, *words]
    return subprocess.run(words, cwd=cwd, env=environment(cwd), capture_output=True, text=True)


def test_without_a_cluster_a_sweep_ends_with_one_sentence_before_anything_else(commands, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    answer = run_sweep(tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.startswith("probe: this machine has no sbatch")
    assert len(answer.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_jobs_that_sbatch_refuses_are_said_with_its_reason(commands, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    commands(srun="", scontrol=UP, sacct="", sbatch="cp $1 job; echo sbatch: error: no such partition >&2; exit 1")
    answer = run_sweep(tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1].startswith(
        "probe: the sweep ended early, sbatch took no job (sbatch: error: no such partition), and hydra.launcher.… has"
    )
    job = (tmp_path / "job").read_text().splitlines()
    assert {"#SBATCH --requeue", "#SBATCH --job-name=probe", "#SBATCH --array=0-1%2"} <= set(job)
    assert 'test -n "$OMP_NUM_THREADS" || export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK' in job


def test_an_interrupted_command_says_that_its_jobs_stay_in_the_queue(commands, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    commands(srun="", scontrol=UP, sacct="", sbatch="echo Submitted batch job 7; cp $1 job")
    process = sweep(tmp_path, *SMALL)
    while not (tmp_path / "job").exists():
        assert process.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert (tmp_path / "said").read_text().splitlines()[-1] == (
        "probe: interrupted, but the jobs stay in SLURM's queue (`scancel --name=probe` ends them); the same command "
        "goes on with what is missing"
    )


def test_a_job_that_died_is_said_with_its_state():
    utils = pytest.importorskip("submitit.core.utils")
    error = utils.UncompletedJobError(
        "Job 3_1 (task: 0) with path a.pkl\nhas not produced any output (state: NODE_FAIL)\nError stream produced:"
    )
    assert slurm.Launcher().became_of(error) == (
        "a job died without a word (Job 3_1, state: NODE_FAIL; its log stands above), others may still be at work"
    )
    assert slurm.Launcher().became_of(ValueError("x")) == "a job died without a word (the last lines above say where)"
    assert slurm.Launcher().became_of(None) == slurm.Launcher().became_of(utils.UncompletedJobError(""))


def environment(cwd):
    return os.environ | {"PROBE_CACHE": str(cwd / "cache"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def sweep(cwd, *launcher):
    (cwd / "slow.py").write_text(SLOW)
    words = [sys.executable, "-m", "probe", *SWEEP, *(launcher or ["hydra/launcher=submitit_local"])]
    with open(cwd / "said", "w") as said:
        return subprocess.Popen(words, cwd=cwd, env=environment(cwd), stdout=said, stderr=said)


def rows_extracted(cwd):
    return sum(int(line) for line in (cwd / "rows").read_text().split()) if (cwd / "rows").exists() else 0


def writers(cwd):
    """The processes that extract."""
    return [json.loads(path.read_text())["pid"] for path in cwd.glob("cache/features/*/.work-*/writers/*.json")]


def wait_for(cwd, process, n_rows):
    while rows_extracted(cwd) < n_rows:
        assert process.poll() is None, (cwd / "said").read_text()
        time.sleep(0.02)


def signal_all_at(cwd, process, n_rows, number):
    wait_for(cwd, process, n_rows)
    signalled = writers(cwd)
    for pid in signalled:
        os.kill(pid, number)
    assert signalled


def results(cwd):
    return sorted(path.parent.name[:20] for path in cwd.glob("runs/t/*/result.json"))


@pytest.mark.slow
def test_a_job_that_is_preempted_is_requeued_and_goes_on_from_the_journal(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    process = sweep(tmp_path)
    signal_all_at(tmp_path, process, 60, signal.SIGUSR2)
    assert process.wait() == 0, (tmp_path / "said").read_text()
    logs = "".join(path.read_text() for path in tmp_path.glob("runs/t/.submitit/*/*_log.*"))
    assert "Requeued job" in logs
    assert len(results(tmp_path)) == 2
    # Two jobs had a block of two rows in hands, and four waiting for the disk, when they were told to go.
    assert 178 <= rows_extracted(tmp_path) <= 178 + 2 * 6 * 2


@pytest.mark.slow
def test_after_jobs_were_killed_the_same_command_goes_on_from_the_journal(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    process = sweep(tmp_path)
    signal_all_at(tmp_path, process, 60, signal.SIGKILL)
    assert process.wait() == 1
    assert "a job died without a word" in (tmp_path / "said").read_text()
    process = sweep(tmp_path)
    assert process.wait() == 0, (tmp_path / "said").read_text()
    assert len(results(tmp_path)) == 2
    # Finished blocks become durable once a second: up to ten blocks of each job are done again.
    assert 178 <= rows_extracted(tmp_path) <= 178 + 2 * 16 * 2


@pytest.fixture
def cluster():
    """Skips where there is no SLURM; its nodes have to share the folder of the test."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    try:
        slurm.check()
    except InputError as error:
        pytest.skip(str(error))


def ask(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    "told", [["scontrol", "requeue"], ["scancel", "--signal=USR2"]], ids=["requeued by others", "told of its end"]
)
def test_on_a_cluster_a_requeued_job_goes_on_from_the_journal(tmp_path, told):
    name = uuid.uuid4().hex
    process = sweep(tmp_path, *SMALL, f"hydra.launcher.name={name}")
    while rows_extracted(tmp_path) < 40 or len(writers(tmp_path)) < 2:  # a job that is told before it listens dies
        assert process.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.1)
    jobs = ask("squeue", "--noheader", "--array", "--format=%i", f"--name={name}").split()
    for job in jobs:
        ask(*told, job)
    while process.poll() is None:  # requeued jobs would wait for two minutes
        time.sleep(1)
        for job in ask("squeue", "--noheader", "--array", "--format=%i", f"--name={name}", "--states=PENDING").split():
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)
    assert process.returncode == 0, (tmp_path / "said").read_text()
    assert len(jobs) == len(results(tmp_path)) == 2
    assert 178 <= rows_extracted(tmp_path) <= 178 + 2 * 16 * 2


def srun(cwd, n_tasks, *words, **variables):
    (cwd / "slow.py").write_text(SLOW)
    words = ["srun", f"--ntasks={n_tasks}", "--mem-per-cpu=2G", *words]
    return subprocess.run(words, cwd=cwd, env=environment(cwd) | variables, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_on_a_cluster_a_killed_task_of_srun_holds_up_nobody(tmp_path):
    extract = [sys.executable, "-m", "probe", "extract", *EXTRACTION, "head=ncm"]
    answer = srun(tmp_path, 3, "--kill-on-bad-exit=0", *extract, MORTAL="1")
    assert answer.returncode == 128 + signal.SIGKILL, answer.stdout + answer.stderr
    assert [line.split(" of ")[0] for line in answer.stdout.splitlines() if "rows of" in line] == [
        "identity wine/train: 88 rows",
        "identity wine/test: 90 rows",
    ]
    # Finished blocks become durable once a second: up to ten blocks, and some that wait for the disk, are done again.
    assert 178 <= rows_extracted(tmp_path) <= 178 + 16 * 2
    assert not writers(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_on_a_cluster_a_cache_that_tasks_of_srun_do_not_share_is_noticed(tmp_path):
    impatient = (
        "import probe.command.cli, probe.features.processes.steps as s; s.MEET_SECONDS = 20.0; probe.command.cli.main()"
    )
    extract = shlex.join([sys.executable, "-c", impatient, "extract", *EXTRACTION, "head=ncm"])
    answer = srun(tmp_path, 2, "bash", "-c", f"PROBE_CACHE={tmp_path}/$SLURM_PROCID {extract}")
    for task in (0, 1):
        sentence = f"sees nothing of task {1 - task} in the cache {tmp_path / str(task)} after 20 s: set PROBE_CACHE"
        assert sentence in answer.stderr
    assert not (tmp_path / "rows").exists()
