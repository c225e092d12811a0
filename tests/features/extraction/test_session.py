"""Processes that decode: how many there are, and those that end without a word of their own."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from extraction_toys import ToyBackbone, Unguarded, toy_dataset

from probe.backbones.shared.views import MultiView
from probe.core.errors import InputError
from probe.datasets.shared.partitions import ArrayPartition
from probe.features.extraction import session as extraction
from probe.features.extraction.contribute import dying_workers
from probe.features.extraction.plan import Plan
from probe.features.extraction.session import own_cores, usual_workers


def deadly():
    """A backbone whose transform kills the process at the 76th row."""
    backbone, seen = ToyBackbone(), []
    plain = backbone.transform

    def transform(row):
        seen.append(row)
        if len(seen) > 75:
            time.sleep(1)  # until the rows before are written
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(row)

    backbone.transform = transform
    return backbone


def extract(root, backbone):
    options = {"batch_size": 10, "n_workers": 1, "device": "cpu", "progress": False}
    return Unguarded(root).get(backbone, toy_dataset(100), "train", ["pooled"], **options)


def test_too_little_shared_memory_says_what_to_do(tmp_path, monkeypatch):
    def full(tensors):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device")

    monkeypatch.setattr("torch.utils.data.default_collate", full)
    with pytest.raises(InputError, match=r"1 workers ran out of shared memory, .* or features.batch_size lower"):
        extract(tmp_path, ToyBackbone())


def test_a_killed_one_says_what_to_do_and_what_is_finished_stays(tmp_path):
    with pytest.raises(InputError, match="one of 1 workers that decode was killed, most likely for want of memory"):
        extract(tmp_path, deadly())
    survivor = ToyBackbone()
    extract(tmp_path, survivor)
    assert 0 < survivor.rows_extracted <= 40


def test_other_failures_come_as_they_are():
    with pytest.raises(RuntimeError, match="something else"), dying_workers(3):
        raise RuntimeError("something else")


def workers(rows, device="cuda", n_blocks=100, backbone=None):
    plan = Plan(n_blocks * 5, 5, {"pooled": "float32"}, "toy", "some")
    return usual_workers(backbone or ToyBackbone(), rows, plan, device)


@pytest.fixture
def sixteen_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(extraction, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr("joblib.cpu_count", lambda: 32)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


def picture(n=3):
    return ArrayPartition(np.zeros((n, 8, 8, 3), dtype=np.uint8), np.zeros(n), [str(i) for i in range(n)])


@pytest.mark.usefixtures("sixteen_cores")
def test_images_on_a_gpu_are_decoded_by_all_cores_but_one():
    assert workers(picture()) == 15
    assert workers(picture(), "cuda:3") == 15
    assert workers(picture(), n_blocks=4) == 4


@pytest.mark.usefixtures("sixteen_cores")
def test_on_a_cpu_and_of_rows_that_are_no_images_none_are():
    assert workers(picture(), "cpu") == 0
    vectors = ArrayPartition(np.zeros((3, 8), dtype=np.float32), np.zeros(3), ["a", "b", "c"])
    assert workers(vectors) == 0


@pytest.mark.usefixtures("sixteen_cores")
def test_each_has_room_for_its_batches(monkeypatch):
    of_one = 3 * 5 * 3 * 8 * 8 * 4  # three batches of five images in float32
    for free, expected in ((of_one - 1, 0), (2.5 * of_one, 2), (1e12, 15)):
        monkeypatch.setattr(extraction.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=int(free)))
        assert workers(picture()) == expected
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * of_one))
    assert workers(picture(), backbone=MultiView(ToyBackbone(), n=2, kind="flips")) == 1
    monkeypatch.setattr(extraction, "SHARED_MEMORY", Path("/nowhere"))
    assert workers(picture()) == 0


@pytest.mark.usefixtures("sixteen_cores")
def test_ranks_of_torchrun_divide_the_cores(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert own_cores() == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert own_cores() == 4  # whatever OMP_NUM_THREADS says, which torchrun sets to 1
    assert workers(picture()) == 3
