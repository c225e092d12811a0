from pathlib import Path

import numpy as np
import pytest

from probe.core.arrays import RowSubset, row_chunks


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setattr("probe.core.arrays.CHUNK_BYTES", 2**16)
    X = np.random.default_rng(0).normal(size=(5000, 40)).astype(np.float16)
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy", X


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_pass_changes_no_number_whatever_the_mode(stored, mode):
    path, X = stored
    array = np.load(path, mmap_mode=mode)
    expected = X.copy()
    if mode != "r":
        array[7] = expected[7] = 3  # held in memory only, where the mode is copy-on-write
    for view, rows in ((array, expected), (array[100:], expected[100:]), (RowSubset(array, np.arange(50)), expected)):
        for part in row_chunks(view, 2**12):
            np.testing.assert_array_equal(view[part], rows[part])
    np.testing.assert_array_equal(array, expected)


def resident_bytes(path):
    """Resident part of the mapping of a file, as the kernel counts it."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if str(path) in line:
            return 1024 * int(next(text for text in lines if text.startswith("Rss:")).split()[1])
    raise AssertionError(f"{path} is not mapped")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux counts mapped pages")
def test_a_pass_over_a_memmap_keeps_little_of_it_in_memory(stored):
    path, X = stored
    array = np.load(path, mmap_mode="r")
    total = sum(np.array(array[rows]).astype(np.float64).sum() for rows in row_chunks(array, 2**14))
    assert total == pytest.approx(X.astype(np.float64).sum())
    assert resident_bytes(path) < X.nbytes / 2
    assert float(np.asarray(array).astype(np.float64).sum()) == pytest.approx(total)
    assert resident_bytes(path) > X.nbytes / 2
