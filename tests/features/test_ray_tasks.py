"""Extraction on a local Ray cluster of two workers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from probe.errors import InputError
from probe.features import ray_tasks

ROOT = Path(__file__).parent.parent.parent
WORDS = ["probe", "extract", "backbone=identity", "dataset=wine", "head=ncm", "features.batch_size=2"]
RAY = ["extract.engine=ray", "extract.address=local", "extract.workers=2"]
SLOW = """
import time
from probe.backbones.identity import IdentityBackbone

class Slow(IdentityBackbone):
    def extract(self, batch, kinds):
        time.sleep(0.1)
        return super().extract(batch, kinds)
"""


def environment(tmp_path, name):
    return os.environ | {"PROBE_CACHE": str(tmp_path / name), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def arrays(tmp_path, name):
    return {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name / "features").rglob("*.npy")}


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


def test_no_cluster_is_said_with_the_address_that_was_tried():
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=r"no Ray cluster answers at the address auto \(.*\): start one .*local"):
        ray_tasks.connect("auto")


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"needs Ray, which is not installed: pip install -e '.\[ray\]'"):
        ray_tasks.connect("local")
