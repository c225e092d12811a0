"""Extraction on Ray: a local cluster of two workers, and one of several nodes that come and go."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from places import ROOT

from probe.command import subcommands as commands
from probe.core.errors import InputError
from probe.features.extraction.guard import N_ROWS
from probe.features.processes import ray_tasks

WORDS = ["probe", "extract", "backbone=identity", "dataset=wine", "head=ncm", "features.batch_size=2"]
RAY = ["extract.engine=ray", "extract.address=local", "extract.workers=2"]
SLOW = """
import os
import time
from probe.backbones.identity import IdentityBackbone

class Slow(IdentityBackbone):
    def extract(self, batch, kinds):
        with open("rows", "a") as file:
            file.write(f"{os.getpid()} {len(batch)}\\n")
        time.sleep(0.1)
        self.n_batches = getattr(self, "n_batches", 0) + 1
        while self.n_batches == 10 and os.path.exists("hold"):
            time.sleep(0.1)
        return super().extract(batch, kinds)
"""


def environment(tmp_path, name):
    return os.environ | {"PROBE_CACHE": str(tmp_path / name), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def arrays(tmp_path, name):
    """What is stored, whatever it is called: a backbone of other code has entries of its own."""
    return sorted((p.name, p.read_bytes()) for p in (tmp_path / name / "features").rglob("*.npy"))


@pytest.mark.slow
def test_tasks_share_the_rows_and_one_that_is_killed_is_replaced(tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "slow.py").write_text(SLOW)
    words = [sys.executable, "-m", *WORDS]
    subprocess.run(words, cwd=tmp_path, env=environment(tmp_path, "one"), check=True, capture_output=True)
    process = subprocess.Popen(
        [*words, *RAY, "backbone._target_=slow.Slow"], cwd=tmp_path, env=environment(tmp_path, "ray"), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    signs = set()
    while process.poll() is None and len(signs) < 2:
        time.sleep(0.05)
        signs = set((tmp_path / "ray").rglob("writers/*.json"))
    if signs:
        os.kill(json.loads(min(signs).read_text())["pid"], signal.SIGKILL)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert len(signs) == 2
    assert [line.split(":")[0] for line in out.splitlines() if "rows of" in line] == [
        "identity wine/train",
        "identity wine/test",
    ]
    assert arrays(tmp_path, "ray") == arrays(tmp_path, "one")


@pytest.fixture
def nodes():
    """A cluster of a head without processors, to which `nodes(1)` adds a node of one processor."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": ray_tasks.OBJECT_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})

    def add(n):
        return [cluster.add_node(num_cpus=1, **small) for _ in range(n)]

    add.address, add.kill = cluster.address, lambda node: cluster.remove_node(node, allow_graceful=False)
    yield add
    cluster.shutdown()


def rows_by_process(tmp_path):
    """Process -> rows that it extracted."""
    lines = (tmp_path / "rows").read_text().split("\n")[:-1] if (tmp_path / "rows").exists() else []
    numbers = [[int(word) for word in line.split()] for line in lines]
    return {pid: sum(n for other, n in numbers if other == pid) for pid, _ in numbers}


def wait_until(process, condition):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_nodes_come_late_and_die_and_the_bits_are_those_of_one_process(tmp_path, nodes):
    (tmp_path / "slow.py").write_text(SLOW)
    words = [sys.executable, "-m", *WORDS]
    subprocess.run(words, cwd=tmp_path, env=environment(tmp_path, "one"), check=True, capture_output=True)
    (tmp_path / "hold").touch()  # else two nodes would be done before the third has started
    first, _ = nodes(2)
    ray = [*RAY[:1], f"extract.address={nodes.address}", "extract.workers=3"]
    process = subprocess.Popen(
        [*words, *ray, "backbone._target_=slow.Slow"], cwd=tmp_path, env=environment(tmp_path, "ray"), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(process, lambda: len(rows_by_process(tmp_path)) == 2)
    nodes(1)  # where the third task was waiting for room
    wait_until(process, lambda: len(rows_by_process(tmp_path)) == 3)
    nodes.kill(first)
    (tmp_path / "hold").unlink()
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    shares = rows_by_process(tmp_path).values()
    assert len(shares) >= 3
    assert min(shares) > 0
    # What the killed task had in hands was extracted again, and the first rows are looked at three times.
    assert 178 <= sum(shares) <= 178 + 16 * 2 + 3 * N_ROWS
    assert arrays(tmp_path, "ray") == arrays(tmp_path, "one")


def test_no_cluster_is_said_with_what_ray_says(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def init(**options):
        assert options["address"] == "auto"
        raise ConnectionError("Could not find any running Ray instance.\nPlease")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError, match=r"at the address auto \(Could not find any .*\.\): start one .*=local$"):
        ray_tasks.connect("auto")


def test_auto_is_the_address_of_the_environment(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "localhost:1")
    with pytest.raises(InputError, match=r"no Ray cluster answers at the address localhost:1 \(.*refused\)"):
        ray_tasks.connect("auto")


def test_an_address_where_nobody_listens_is_said_at_once(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for minutes"))
    with socket.socket() as closed:
        closed.bind(("localhost", 0))  # taken, and nobody listens
        port = closed.getsockname()[1]
        for address in (f"localhost:{port}", f"ray://localhost:{port}"):
            with pytest.raises(
                InputError, match=rf"no Ray cluster answers at the address {address} \(.*refused\): start"
            ):
                ray_tasks.connect(address)


def test_without_a_cluster_nothing_is_hashed(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path))
    monkeypatch.setattr("probe.experiment.extracting.entry_digest", lambda _: pytest.fail("hashed"))
    with pytest.raises(InputError, match="no Ray cluster answers at the address localhost:1 "):
        commands.extract([*WORDS[2:], "extract.engine=ray", "extract.address=localhost:1"])


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"needs Ray, which is not installed: pip install -e '.\[ray\]'"):
        ray_tasks.connect("local")
