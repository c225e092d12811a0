"""Entries of the second axis: what heads read of views and of attention heads."""

import numpy as np
import pytest

from probe.core.arrays import Entries, RowReader, RowStack, RowSubset, row_chunks

ARRAY = np.random.default_rng(0).normal(size=(7, 3, 4)).astype(np.float16)
PICKS = {"one": 2, "each": np.array([0, 2, 1, 1, 0, 2, 2]), "mean": None}


def expected(pick):
    if pick is None:
        return ARRAY.astype(np.float32).mean(1)
    return ARRAY[:, pick] if isinstance(pick, int) else ARRAY[np.arange(7), pick]


@pytest.fixture(params=["array", "memmap"])
def stored(request, tmp_path):
    if request.param == "array":
        return ARRAY
    np.save(tmp_path / "x.npy", ARRAY)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS)
def test_every_way_to_read_rows_gives_the_same(stored, pick):
    entries, whole = Entries(stored, pick), expected(pick)
    rows = np.array([5, 0, 3])
    assert entries.shape == whole.shape == (7, 4)
    assert entries.dtype == whole.dtype
    # The mean is a sum in float32, in another order than numpy's.
    check = np.testing.assert_array_equal if pick is not None else np.testing.assert_allclose
    tolerance = {} if pick is not None else {"rtol": 1e-6, "atol": 1e-6}
    check(entries[1:4], whole[1:4], **tolerance)
    check(entries[rows], whole[rows], **tolerance)
    check(np.asarray(entries), whole, **tolerance)
    check(RowSubset(entries, rows)[:], whole[rows], **tolerance)
    check(RowReader({"x": RowSubset(entries, rows)})[:]["x"], whole[rows], **tolerance)
    check(RowStack([entries, RowSubset(entries, rows)])[5:9], np.concatenate([whole[5:], whole[rows[:2]]]), **tolerance)
    check(np.concatenate([entries[part] for part in row_chunks(entries, 32)]), whole, **tolerance)


def test_entries_of_entries_pick_from_the_outer_axis_first():
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    inner = Entries(array, np.array([2, 0]))
    np.testing.assert_array_equal(Entries(inner, 1)[:], np.stack([array[0, 2, 1], array[1, 0, 1]]))
    np.testing.assert_array_equal(Entries(inner, np.array([3, 0]))[:], np.stack([array[0, 2, 3], array[1, 0, 0]]))
    np.testing.assert_allclose(Entries(inner, None)[:], np.stack([array[0, 2].mean(0), array[1, 0].mean(0)]))
