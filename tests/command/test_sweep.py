"""Sweeps over processes, from outside: the same runs as one process gives, interrupted and taken up again."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import pytest
import torch
from places import ROOT

from probe.command import cli, job
from probe.results.comparing import content

# A head that takes a second and leaves behind how many threads it was given, and when it was fitted.
SLOW = """
import os, time
from pathlib import Path
import torch
from threadpoolctl import threadpool_info
from probe.heads.ncm import NearestClassMean

class Slow(NearestClassMean):
    def fit(self, X, y, *, validation=None):
        pools = [pool["num_threads"] for pool in threadpool_info()]
        Path("fits").mkdir(exist_ok=True)
        Path(f"fits/{os.getpid()}-{time.time_ns()}").write_text(f"{torch.get_num_threads()} {max(pools)}")
        time.sleep(float(os.environ["SLOW"]))
        return super().fit(X, y, validation=validation)
"""
SWEEP = ["-m", "name=t", "backbone=identity", "dataset=iris,wine", "head=ncm", "head._target_=slow.Slow", "seed=0,1,2"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def popen(cwd: Path, *words: str, slow: float = 0) -> subprocess.Popen[str]:
    (cwd / "slow.py").write_text(SLOW)
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "PYTHONPATH": str(ROOT), "SLOW": str(slow), "COLUMNS": "120"}
    for name in [name for name in env if name.endswith("_NUM_THREADS")]:
        del env[name]
    # In a process group of its own, since a terminal sends Ctrl-C to all processes of a command.
    return subprocess.Popen(
        [sys.executable, "-m", "probe", *words], cwd=cwd, env=env, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def probe(cwd: Path, *words: str, slow: float = 0) -> str:
    process = popen(cwd, *words, slow=slow)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return out


def interrupt(cwd: Path, *words: str) -> str:
    """Starts a sweep, presses Ctrl-C once two runs are there, and returns what it said on stderr."""
    process = popen(cwd, *words, slow=2)
    while process.poll() is None and len(runs(cwd)) < 2:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    return err


def runs(cwd: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in sorted((cwd / "runs" / "t").glob("[!.]*/result.json"))}


def fits(cwd: Path) -> list[str]:
    return [path.read_text() for path in (cwd / "fits").iterdir()]


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one process, interrupted and taken up again."""
    cwd = tmp_path_factory.mktemp("basic")
    (cwd / "stderr").write_text(interrupt(cwd, *SWEEP))
    (cwd / "before").write_text(json.dumps({name: run.stat().st_ino for name, run in runs(cwd).items()}))
    (cwd / "fitted_before").write_text(str(len(fits(cwd))))
    (cwd / "stdout").write_text(probe(cwd, *SWEEP))
    return cwd


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sweep over two processes, interrupted and taken up again."""
    cwd = tmp_path_factory.mktemp("parallel")
    (cwd / "stderr").write_text(interrupt(cwd, *SWEEP, *JOBLIB))
    (cwd / "before").write_text(json.dumps({name: run.stat().st_ino for name, run in runs(cwd).items()}))
    (cwd / "fitted_before").write_text(str(len(fits(cwd))))
    (cwd / "stdout").write_text(probe(cwd, *SWEEP, *JOBLIB))
    return cwd


def test_jobs_of_a_sweep_over_processes_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert job.own_device("auto", 3) == "auto"  # in the launching process
    monkeypatch.setattr(job.multiprocessing, "parent_process", lambda: object())
    assert [job.own_device("auto", n) for n in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert job.own_device("cpu", 1) == "cpu"


@pytest.mark.parametrize("launcher", ["basic", "parallel"])
def test_an_interrupted_sweep_goes_on_with_what_is_missing(launcher: str, request: pytest.FixtureRequest) -> None:
    cwd = request.getfixturevalue(launcher)
    told = (cwd / "stderr").read_text()
    assert "interrupted; the same command goes on with what is missing" in told
    assert "Traceback" not in told
    before = json.loads((cwd / "before").read_text())
    assert 2 <= len(before) < 6
    assert len(runs(cwd)) == 6
    assert {name: runs(cwd)[name].stat().st_ino for name in before} == before
    assert len(fits(cwd)) - int((cwd / "fitted_before").read_text()) == 6 - len(before)
    assert f"{6 - len(before)} done, {len(before)} there" in (cwd / "stdout").read_text()


def test_ctrl_c_while_a_job_is_composed_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hydra_app() -> None:
        try:
            try:
                raise KeyboardInterrupt
            finally:
                raise AttributeError("'NoneType' object has no attribute '_invalidate_flags_cache'")
        except AttributeError:
            sys.exit(1)

    monkeypatch.setattr(cli, "hydra_app", hydra_app)
    monkeypatch.setattr(sys, "argv", ["probe", "-m", "seed=0,1"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "\nprobe: interrupted; the same command goes on with what is missing\n"


@pytest.mark.parametrize("launcher", ["basic", "parallel"])
def test_nothing_half_written_stays_behind(launcher: str, request: pytest.FixtureRequest) -> None:
    cwd = request.getfixturevalue(launcher)
    assert list((cwd / "runs" / "t" / ".unfinished").iterdir()) == []
    assert list((cwd / "runs" / "t" / ".sweep").glob("*/*.running")) == []


@pytest.mark.parametrize("launcher", ["basic", "parallel"])
def test_no_file_of_a_sweep_says_where_it_was_made(launcher: str, request: pytest.FixtureRequest) -> None:
    cwd = request.getfixturevalue(launcher)
    paths = [path for path in (cwd / "runs").rglob("*") if path.is_file()]
    assert not [path for path in paths if str(cwd).encode() in path.read_bytes()]
    assert len(paths) > 3 * 6


def test_two_processes_predict_what_one_does(basic: Path, parallel: Path) -> None:
    assert list(runs(basic)) == list(runs(parallel))
    for name, run in runs(basic).items():
        for file in ("predictions.safetensors", "head.safetensors"):
            assert content(run / file) == content(runs(parallel)[name] / file)
    assert (basic / "runs/t/leaderboard.csv").read_text() == (parallel / "runs/t/leaderboard.csv").read_text()


def test_each_feature_is_extracted_once(parallel: Path) -> None:
    passes = list((parallel / "cache" / "features").glob("*/*/manifest.json"))
    assert len(passes) == 4  # one backbone, two datasets of two partitions
    assert len({path.parent.parent for path in passes}) == 4
    left = {path for path in (parallel / "cache" / "features").glob("*/*") if path.is_dir()}
    assert left == {path.parent for path in passes}


def test_processes_divide_the_threads(parallel: Path) -> None:
    share = max(1, joblib.cpu_count() // 2)
    assert set(fits(parallel)) == {f"{share} {share}"}


def test_a_sweep_beside_a_sweep_keeps_its_failures_and_its_exit_code(tmp_path: Path) -> None:
    words = ["-m", "name=t", "backbone=identity", "dataset=iris", "head=ncm", "head._target_=slow.Slow"]
    first = popen(tmp_path, *words, "head.metric=nonsense,cosine", slow=30)
    while not list(tmp_path.glob("runs/t/.sweep/*/*.failed")):
        assert first.poll() is None
        time.sleep(0.05)
    out = probe(tmp_path, *words, "head.metric=euclidean", "seed=1")
    assert first.poll() is None, "the second sweep ended after the first"
    told, err = first.communicate()
    assert first.returncode == 1
    assert "1 done, 1 failed" in told
    assert "metric='nonsense' is unknown" in err
    assert "runs/t: 1 done\n" in out


UNCOMPOSED = ["-m", "name=t", "backbone=identity", "dataset=iris", "head=nosuch,ncm,lda", "head.metric=cosine,l1"]


def test_jobs_that_cannot_be_composed_fail_alone_and_haunt_no_table(tmp_path: Path) -> None:
    process = popen(tmp_path, *UNCOMPOSED)
    out, err = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "1 done, 5 failed" in out
    assert "there is no head=nosuch: choose one of asymmetric, attentive, " in err
    assert "head has no metric: it is a setting of head=" in err
    assert "; choose one of shrinkage, device" in err
    assert "metric='l1' is unknown" in err
    assert [path.name for path in (tmp_path / "runs/t").iterdir() if path.is_dir() and path.name[0] != "."] == list(
        runs(tmp_path)
    )
    assert "Not counted" not in probe(tmp_path, "leaderboard", "runs/t")


def test_jobs_of_one_sweep_that_mean_the_same_run_once(tmp_path: Path) -> None:
    words = ["-m", "name=t", "backbone=identity", "dataset=iris", "head=ncm", "head._target_=slow.Slow", "seed=0"]
    spelled = ["+features.dtypes.pooled=float32,null", "head.metric=euclidean,cosine", "tracker=none"]
    out = probe(tmp_path, *words, *spelled, *JOBLIB, slow=1)
    assert "2 done, 2 there" in out
    assert len(fits(tmp_path)) == len(runs(tmp_path)) == 2
    with (tmp_path / "runs" / "t" / "leaderboard.csv").open() as file:
        assert [row["n_seeds"] for row in csv.DictReader(file)] == ["1", "1"]


@pytest.mark.parametrize("launcher", ["ray", "joblib", "slurm_cpu"])
def test_a_launcher_that_is_not_installed_is_named_with_its_extra(tmp_path, launcher):
    without = "import sys, hydra_plugins; hydra_plugins.__path__ = []; from probe.command.cli import main; main()"
    words = [sys.executable, "-c", without, *SWEEP, f"hydra/launcher={launcher}"]
    answer = subprocess.run(words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    name, extra = {"slurm_cpu": ("submitit_slurm", "slurm")}.get(launcher, (launcher, launcher))
    assert answer.returncode == 1
    assert answer.stderr.decode().endswith(
        f"\nprobe: the launcher {name} is a plugin that is not installed: pip install -e '.[{extra}]'\n"
    )
