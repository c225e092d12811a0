"""Sweeps through submitit: the presets for SLURM, and the same sweep by submitit's local executor."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hydra
import pytest

from probe.cli import CONF

ROOT = Path(__file__).parent.parent
# Writes down the rows of each batch; 88 and 90 rows take 9 seconds together.
SLOW = """
import time
from probe.backbones.identity import IdentityBackbone

class Slow(IdentityBackbone):
    def extract(self, batch, kinds):
        with open("rows", "a") as file:
            file.write(f"{len(batch)}\\n")
        time.sleep(0.1)
        return super().extract(batch, kinds)
"""
SWEEP = [
    "-m", "hydra/launcher=submitit_local", "name=t", "backbone=identity", "backbone._target_=slow.Slow",
    "features.batch_size=2", "dataset=wine", "head=ncm,naive_bayes",
]  # fmt: skip


@pytest.mark.parametrize("preset", ["slurm_cpu", "slurm_gpu"])
def test_presets_fit_the_installed_launcher(preset):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", [f"hydra/launcher={preset}"], return_hydra_config=True).hydra.launcher
    assert config._target_.endswith("SlurmLauncher")
    assert config.max_num_timeout > 0
    assert config.gpus_per_node == (1 if preset == "slurm_gpu" else None)


def sweep(cwd):
    (cwd / "slow.py").write_text(SLOW)
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(cwd / "said", "w") as said:
        return subprocess.Popen([sys.executable, "-m", "probe", *SWEEP], cwd=cwd, env=env, stdout=said, stderr=said)


def rows_extracted(cwd):
    return sum(int(line) for line in (cwd / "rows").read_text().split()) if (cwd / "rows").exists() else 0


def writers(cwd):
    """The processes that extract."""
    return [json.loads(path.read_text())["pid"] for path in cwd.glob("cache/features/*/.work-*/writers/*.json")]


def signal_all_at(cwd, process, n_rows, number):
    while rows_extracted(cwd) < n_rows:
        assert process.poll() is None, (cwd / "said").read_text()
        time.sleep(0.02)
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
