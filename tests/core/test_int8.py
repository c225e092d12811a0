import numpy as np
import pytest
import torch

from probe.core.arrays import DrawnViews, Entries, RowReader, RowSubset, read_rows, row_chunks
from probe.core.int8 import pack, unknown, unpack
from probe.core.lazy import Unpacked


def tokens(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_no_number_moves_by_more_than_half_a_step_of_its_own_vector():
    x = tokens(5, 3, 16) * torch.logspace(-6, 6, 15).reshape(5, 3, 1)
    packed = pack(x).numpy()
    assert packed.dtype == np.int8
    assert packed.shape == (5, 3, 20)
    step = np.abs(x.numpy()).max(-1, keepdims=True) / 127
    assert (np.abs(unpack(packed) - x.numpy()) <= step * (0.5 + 1e-5)).all()


def test_a_vector_is_packed_alike_whatever_stands_beside_it():
    x = tokens(6, 4, 8)
    together = pack(x)
    alone = torch.cat([pack(x[i : i + 1, t : t + 1]) for i in range(6) for t in range(4)]).reshape(6, 4, 12)
    assert torch.equal(together, alone)


def test_what_was_unpacked_is_packed_to_the_same_bytes():
    packed = pack(tokens(4, 2, 16))
    assert torch.equal(pack(torch.from_numpy(unpack(packed.numpy()))), packed)


@pytest.mark.parametrize("value", [0.0, 1e-44, 3e38, -65504.0])
def test_zeros_and_numbers_at_the_ends_of_float32_are_kept(value):
    x = torch.zeros(1, 2, 4)
    x[0, 1, 2] = value
    np.testing.assert_allclose(unpack(pack(x).numpy()), x.numpy(), rtol=1e-6, atol=1e-44)


def test_what_is_not_known_is_a_number_nowhere():
    x = tokens(3, 2, 8)
    x[1] = torch.nan
    found = unpack(pack(x).numpy())
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()
    assert np.isnan(unpack(unknown((2, 3, 12), np.int8))).all()
    assert np.isnan(unknown((2, 3), np.float16)).all()


@pytest.fixture
def stored(tmp_path):
    np.save(tmp_path / "tokens.npy", pack(tokens(20, 3, 8)).numpy())
    return np.load(tmp_path / "tokens.npy", mmap_mode="r")


def test_rows_are_unpacked_where_they_are_asked_for(stored):
    lazy, whole, rows = Unpacked(stored), unpack(stored), np.array([7, 2, 11])
    assert (lazy.shape, lazy.ndim, len(lazy), lazy.dtype) == ((20, 3, 8), 3, 20, np.float32)
    np.testing.assert_array_equal(lazy[rows], whole[rows])
    np.testing.assert_array_equal(np.asarray(lazy), whole)
    for array in (lazy, RowSubset(lazy, np.arange(20))):
        np.testing.assert_array_equal(read_rows(array, rows), whole[rows])
        np.testing.assert_array_equal(RowReader({"tokens": array})[rows]["tokens"], whole[rows])
    np.testing.assert_array_equal(np.concatenate([lazy[part] for part in row_chunks(lazy, 200)]), whole)


def test_views_are_picked_and_averaged_as_numbers(stored):
    lazy, whole, rows = Unpacked(stored), unpack(stored), np.array([7, 2, 11])
    np.testing.assert_array_equal(read_rows(Entries(lazy, 1), rows), whole[rows, 1])
    np.testing.assert_allclose(read_rows(Entries(lazy, None), rows), whole[rows].mean(1), atol=1e-6)
    drawn = DrawnViews(lazy, 0).at(3)
    np.testing.assert_array_equal(drawn[rows], whole[rows, drawn.pick[rows]])
