"""Rows that differ in length as heads read them: padded with zeros, with their mask, whatever they were cut from."""

import numpy as np
import pytest

from probe.core.arrays import RowReader, RowStack, RowSubset, read_rows, row_chunks
from probe.core.device import resident_rows
from probe.core.ragged import MeanTokens, RaggedMask, RaggedRows, lengths_of, longest_row, tokens_of

LENGTHS = np.array([3, 1, 5, 0, 2, 4])


@pytest.fixture
def rows(tmp_path):
    """Tokens of a file, and each row by itself."""
    values = np.random.default_rng(0).normal(size=(LENGTHS.sum(), 4)).astype(np.float16)
    np.save(tmp_path / "tokens.npy", values)
    offsets = np.append(0, np.cumsum(LENGTHS))
    alone = np.split(values, offsets[1:-1])
    return RaggedRows(np.load(tmp_path / "tokens.npy", mmap_mode="r"), offsets), alone


def padded(alone, which):
    longest = max(len(alone[i]) for i in which)
    return np.stack([np.pad(alone[i], ((0, longest - len(alone[i])), (0, 0))) for i in which])


@pytest.mark.parametrize("which", [[0, 1, 2, 3, 4, 5], [4], [5, 1, 5], [3, 1]])
def test_some_rows_are_padded_to_the_longest_of_them_and_the_mask_says_where(rows, which):
    array, alone = rows
    which = np.array(which)
    for found in (array[which], read_rows(RowSubset(array, np.arange(5, -1, -1)), 5 - which)):
        np.testing.assert_array_equal(found, padded(alone, which))
    mask = RaggedMask(array.lengths)[which]
    assert mask.shape == array[which].shape[:2]
    np.testing.assert_array_equal(mask.sum(axis=1), LENGTHS[which])
    assert (array[which][~mask] == 0).all()
    np.testing.assert_array_equal(tokens_of(RowSubset(array, which), np.arange(len(which))).values,
                                  np.concatenate([alone[i] for i in which]))  # fmt: skip


def test_a_single_row_and_slices_are_as_those_of_an_array(rows):
    array, alone = rows
    np.testing.assert_array_equal(array[2], alone[2])
    np.testing.assert_array_equal(array[1:3], padded(alone, [1, 2]))
    np.testing.assert_array_equal(np.asarray(array), padded(alone, range(6)))
    assert array.shape == (6, 5, 4)


def test_rows_and_masks_that_are_stacked_stay_beside_each_other(rows):
    array, alone = rows
    first, second = np.array([1, 4]), np.array([5, 0])

    def reader(which):
        return RowReader({"tokens": RowSubset(array, which), "mask": RowSubset(RaggedMask(LENGTHS), which)})

    both = reader(first).stacked(reader(second))
    assert both.arrays["tokens"].shape == (4, 5, 4)
    np.testing.assert_array_equal(lengths_of(both.arrays["tokens"]), [1, 2, 4, 3])
    assert longest_row(both.arrays["mask"]) == 2
    for asked, which in (([0, 1], [1, 4]), ([3, 0, 2], [0, 1, 5])):
        found = both[np.array(asked)]
        np.testing.assert_array_equal(found["tokens"], padded(alone, which))
        np.testing.assert_array_equal(found["mask"].sum(axis=1), LENGTHS[which])
    chunks = [both[part]["tokens"] for part in row_chunks(both, bytes_per_chunk=64)]
    assert len(chunks) == 4
    assert resident_rows(both.arrays, "cuda") is None


@pytest.mark.parametrize("mapped", [True, False])
def test_means_are_over_the_tokens_that_a_row_has(rows, mapped):
    array, alone = rows
    if not mapped:
        array = RaggedRows(np.asarray(array.values, np.float64), array.offsets)
    means = MeanTokens(array)[np.array([5, 3, 0])]
    assert means.dtype == np.float32
    np.testing.assert_allclose(means[[0, 2]], [alone[i].astype(float).mean(axis=0) for i in (5, 0)], rtol=1e-5)
    assert np.isnan(means[1]).all()


def test_means_of_rows_of_one_length_leave_the_prefix_out():
    X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(MeanTokens(X, 2)[:], X[:, 2:].mean(axis=1), rtol=1e-6)


def test_an_array_of_one_stack_is_no_ragged_one():
    X = np.zeros((3, 2))
    assert lengths_of(X) is lengths_of(RowSubset(X, np.arange(2))) is lengths_of(RowStack([X, X])) is None
    assert longest_row(X) == 0
