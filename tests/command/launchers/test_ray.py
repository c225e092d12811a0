"""Sweeps on Ray: a local cluster of two workers, one of several nodes, and what is said where there is none."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from places import ROOT

from probe.command.launchers import ray as ray_jobs
from probe.core.errors import InputError
from probe.features.processes import ray_tasks
from probe.results.comparing import content

ADDRESS = "hydra.launcher.ray.init.address"
SWEEP = ["-m", "name=t", "backbone=identity", "dataset=iris,wine", "head=ncm,ridge"]
DEATHS = "+hydra.launcher.ray.init.runtime_env.env_vars.DEATHS"
RAY = ["hydra/launcher=ray", f"{ADDRESS}=local", "+hydra.launcher.ray.init.num_cpus=2"]
# A head that leaves behind how many threads it was given, and dies as often as the environment says.
MORTAL = """
import os
import signal
from pathlib import Path
import torch
from probe.heads.ncm import NearestClassMean

class Mortal(NearestClassMean):
    def fit(self, X, y, *, validation=None):
        Path(f"fit-{os.getpid()}").write_text(str(torch.get_num_threads()))
        if len(list(Path().glob("died-*"))) < int(os.environ["DEATHS"]):
            Path(f"died-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y, validation=validation)
"""


def run(cwd, *words, code=0, **variables):
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "PYTHONPATH": str(ROOT)} | variables
    answer = subprocess.run(
        [sys.executable, "-m", "probe", *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == code, answer.stdout + answer.stderr
    return answer


def runs(cwd):
    return {path.parent.name: path.parent for path in sorted(cwd.glob("runs/t/[!.]*/result.json"))}


@pytest.fixture
def plugin():
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_a_local_cluster_gives_what_one_process_does(tmp_path):
    (tmp_path / "basic").mkdir()
    (tmp_path / "ray").mkdir()
    run(tmp_path / "basic", *SWEEP)
    answer = run(tmp_path / "ray", *SWEEP, *RAY)
    assert "runs/t: 4 done" in answer.stdout
    assert all(f"[{n}/4, " in answer.stdout for n in range(1, 5))
    basic, ray = runs(tmp_path / "basic"), runs(tmp_path / "ray")
    assert list(basic) == list(ray)
    assert len(ray) == 4
    for name in basic:
        for file in ("predictions.safetensors", "head.safetensors"):
            assert content(basic[name] / file) == content(ray[name] / file)
    table = (tmp_path / "ray/runs/t/leaderboard.csv").read_text()
    assert table == (tmp_path / "basic/runs/t/leaderboard.csv").read_text()
    assert len(list(tmp_path.glob("ray/cache/features/*/*/manifest.json"))) == 4  # two datasets of two partitions


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The address of a cluster of two nodes, of one processor each, that was started in a folder of its own."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "elsewhere"))
    small = {"object_store_memory": ray_tasks.OBJECT_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    for _ in range(2):
        cluster.add_node(num_cpus=1, **small)
    yield cluster.address
    cluster.shutdown()


def mortal(tmp_path, *words):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/mortal.py").write_text(MORTAL)
    return [*SWEEP[:3], "hydra/launcher=ray", "dataset=iris", "head=ncm", "head._target_=mortal.Mortal", *words]


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_jobs_on_nodes_run_where_the_command_does_and_are_started_again(tmp_path, cluster):
    words = mortal(tmp_path, "head.metric=euclidean,cosine,manhattan", f"{DEATHS}=1", f"{ADDRESS}={cluster}")
    answer = run(tmp_path / "here", *words, code=1)
    assert "runs/t: 2 done, 1 failed" in answer.stdout
    failed, why = answer.stderr.splitlines()[-2:]
    assert (failed.split()[0], failed.split()[-1]) == ("failed:", "head.metric=manhattan")
    assert "metric='manhattan' is unknown" in why
    assert 1 <= len(list((tmp_path / "here").glob("died-*"))) <= 2  # two may begin at once
    assert {path.read_text() for path in (tmp_path / "here").glob("fit-*")} == {"1"}
    assert len(runs(tmp_path / "here")) == 2
    assert len(list(tmp_path.glob("here/cache/features/*/*/manifest.json"))) == 2
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_a_job_that_always_dies_ends_the_sweep_with_what_ray_says(tmp_path, cluster):
    words = mortal(tmp_path, f"{DEATHS}=9", f"{ADDRESS}={cluster}", "+hydra.launcher.ray.remote.max_retries=1")
    told = run(tmp_path / "here", *words, code=1).stderr
    assert "probe: the sweep ended early, Ray gave a job up, and the others with it (The worker died unexp" in told
    assert len(list((tmp_path / "here").glob("died-*"))) == 2


@pytest.mark.slow
def test_nodes_that_do_not_see_the_folder_are_named(tmp_path, cluster):
    import ray

    sign = tmp_path / "runs" / "sweep.json"
    sign.parent.mkdir()
    sign.write_text("this sweep")
    module = ray_jobs.connect({"address": cluster})
    try:
        assert ray_jobs.check(module, {}, sign) == ""
        assert module is ray
        pretended = SimpleNamespace(
            absolute=lambda: sign, read_text=lambda: "that sweep", parent=SimpleNamespace(parent=tmp_path)
        )
        with pytest.raises(
            InputError, match=rf"^(node \S+ does not see the folder {tmp_path}(; |: )){{2}}start the sw"
        ):
            ray_jobs.check(module, {}, pretended)
    finally:
        module.shutdown()


@pytest.mark.usefixtures("plugin")
def test_where_no_cluster_answers_the_sweep_ends_before_anything_else(tmp_path):
    answer = run(tmp_path, *SWEEP, "hydra/launcher=ray", f"{ADDRESS}=localhost:1", code=1)
    assert answer.stderr.startswith("probe: no Ray cluster answers at the address localhost:1 ([Errno")
    assert answer.stderr.endswith(f"give its address ({ADDRESS}=host:6379), or set {ADDRESS}=local\n")
    assert len(answer.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_cluster_is_not_reached_from_outside(monkeypatch):
    with pytest.raises(InputError, match=r"on a node of the cluster, not from outside it \(ray://…\): do so, with"):
        ray_jobs.connect({"address": "ray://localhost:10001"})
    monkeypatch.setenv("RAY_ADDRESS", "ray://localhost:10001")
    with pytest.raises(InputError, match="not from outside"):
        ray_jobs.connect({"address": None})


def test_the_address_that_was_left_here_is_tried_and_named(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/ray_current_cluster").write_text("localhost:1")
    with pytest.raises(InputError, match=r"no Ray cluster answers at the address localhost:1 \(.*refused\)"):
        ray_jobs.connect({"address": None})


def test_without_a_cluster_one_is_started(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_DEDUP_LOGS", raising=False)
    asked = {}
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    ray_jobs.connect({"address": None, "runtime_env": {"env_vars": {"N": 1}}})
    assert asked["address"] == "local"
    assert asked["object_store_memory"] == ray_tasks.OBJECT_STORE_BYTES
    assert asked["runtime_env"]["env_vars"].keys() == {"PYTHONPATH", "PROBE_CACHE", "N"}
    assert asked["runtime_env"]["env_vars"]["N"] == "1"
    assert os.environ["RAY_DEDUP_LOGS"] == "0"  # else lines of progress are taken for one another


def test_arguments_that_ray_refuses_are_named():
    pytest.importorskip("ray")
    with pytest.raises(
        InputError, match=r"^Ray does not start with num_workers \(Unknown keyword .*: change what hydra"
    ):
        ray_jobs.connect({"address": "local", "num_workers": 2})


def node(**resources):
    return {"Alive": True, "Resources": resources, "NodeID": "0" * 56, "NodeManagerHostname": "a"}


@pytest.mark.parametrize(
    ("nodes", "remote", "warning"),
    [
        ([node(CPU=2)], {}, ""),
        ([node(CPU=2, GPU=4), node(CPU=2)], {"num_gpus": 0.5}, ""),
        ([node(CPU=2, GPU=4), node(CPU=2)], {}, "the cluster has GPUs (4), and no job is given one: +hydra.launcher"),
        ([node(CPU=2)], {"num_cpus": 4}, "no node of the cluster has 4 CPU for a job (hydra.launcher.ray.remote)"),
        ([node(CPU=2, GPU=1), node(CPU=8)], {"num_cpus": 4, "num_gpus": 1}, "no node of the cluster has 4 CPU, 1 GPU"),
        ([node(CPU=2)], {"resources": {"tape": 1}}, "no node of the cluster has 1 CPU, 1 tape for a job"),
    ],
)
def test_what_a_job_asks_for_is_compared_with_what_nodes_have(tmp_path, monkeypatch, nodes, remote, warning):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray_jobs, "_troubles", lambda *_: iter(()))
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False}])
    told = ray_jobs.check(ray, remote, tmp_path)
    assert told.startswith(warning)
    assert bool(told) == bool(warning)


def test_options_that_ray_does_not_know_are_refused(tmp_path):
    ray = pytest.importorskip("ray")
    with pytest.raises(
        InputError, match=r"^Ray gives no job {'cpus': 2} \(Invalid option .*: change hydra.launcher.ray"
    ):
        ray_jobs.check(ray, {"cpus": 2}, tmp_path)


def test_only_what_ray_raised_is_said_to_be_of_ray():
    ray, became_of = pytest.importorskip("ray"), ray_jobs.Launcher().became_of
    assert became_of(ray.exceptions.WorkerCrashedError()).startswith("Ray gave a job up, and the others")
    assert became_of(ValueError("x")) == became_of(None) == "a job died without a word (the last lines above say where)"
