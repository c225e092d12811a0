"""Processes that decode and end without a word of their own."""

import os
import signal
import time

import pytest
from extraction_toys import ToyBackbone, toy_dataset

from probe.errors import InputError
from probe.features.extract import dying_workers
from probe.features.store import FeatureStore


class Deadly(ToyBackbone):
    """Its transform kills the process at the 76th row."""

    n_rows = 0

    def transform(self, row):
        self.n_rows += 1
        if self.n_rows > 75:
            time.sleep(1)  # until the rows before are written
            os.kill(os.getpid(), signal.SIGKILL)
        return super().transform(row)


def extract(root, backbone):
    options = {"batch_size": 10, "n_workers": 1, "device": "cpu", "progress": False}
    return FeatureStore(root).get(backbone, toy_dataset(100), "train", ["pooled"], **options)


def test_too_little_shared_memory_says_what_to_do(tmp_path, monkeypatch):
    def full(tensors):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device")

    monkeypatch.setattr("torch.utils.data.default_collate", full)
    with pytest.raises(InputError, match=r"1 workers ran out of shared memory, .* or features.batch_size lower"):
        extract(tmp_path, ToyBackbone())


def test_a_killed_one_says_what_to_do_and_what_is_finished_stays(tmp_path):
    with pytest.raises(InputError, match="one of 1 workers that decode was killed, most likely for want of memory"):
        extract(tmp_path, Deadly())
    survivor = ToyBackbone()
    extract(tmp_path, survivor)
    assert 0 < survivor.rows_extracted <= 40


def test_other_failures_come_as_they_are():
    with pytest.raises(RuntimeError, match="something else"), dying_workers(3):
        raise RuntimeError("something else")
