import os

import numpy as np
import pytest

from probe.core.arrays import RowReader, RowStack, RowSubset, row_chunks
from probe.core.errors import InputError, StoreError


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "tokens.npy", np.arange(6000, dtype=np.float16).reshape(200, 3, 10))
    return np.load(tmp_path / "tokens.npy", mmap_mode="r")


def test_stacked_subsets_read_as_their_concatenation(mapped):
    parts = [RowSubset(mapped, np.array([5, 3, 9])), np.asarray(mapped[:4]), RowSubset(mapped, np.array([], dtype=int))]
    stack, whole = RowStack(parts), np.concatenate([np.asarray(part) for part in parts])
    assert (stack.shape, stack.dtype, stack.ndim, len(stack)) == (whole.shape, whole.dtype, 3, 7)
    for key in (slice(None), slice(2, 5), np.array([6, 0, 3, 3])):
        assert np.array_equal(stack[key], whole[key])


def test_rows_are_writable_copies_in_the_stored_precision(mapped):
    reader = RowReader({"tokens": mapped, "codes": np.arange(200)})
    for rows in (slice(10, 20), np.array([3, 1])):
        batch = reader[rows]
        assert batch["tokens"].dtype == np.float16
        assert np.array_equal(batch["tokens"], np.asarray(mapped)[rows])
        batch["tokens"][:] = 0
    assert mapped[10, 0, 1] == 301


def test_rows_are_read_from_the_file_and_not_through_the_mapping(mapped, monkeypatch):
    reader = RowReader({"tokens": mapped}).subset(np.arange(199, -1, -1)).stacked(RowReader({"tokens": mapped[50:60]}))
    expected = np.concatenate([np.asarray(mapped)[::-1], np.asarray(mapped)[50:60]])
    monkeypatch.setattr(np.memmap, "__getitem__", lambda *_: pytest.fail("read through the mapping"))
    chunks = [reader[rows]["tokens"] for rows in row_chunks(reader, bytes_per_chunk=400)]
    assert len(chunks) > 50
    assert np.array_equal(np.concatenate(chunks), expected)
    order = np.random.default_rng(0).permutation(210)
    assert np.array_equal(reader[order]["tokens"], expected[order])
    for empty in (reader, RowReader({"tokens": mapped})):
        assert empty[np.array([], dtype=int)]["tokens"].shape == (0, 3, 10)


def test_views_that_leave_rows_or_columns_out_read_their_own(mapped):
    for view in (mapped[7:], mapped[::2], mapped[:, 1:], mapped[7:][3:20]):
        reader = RowReader({"tokens": view})
        assert np.array_equal(reader[np.array([4, 0, 5])]["tokens"], np.asarray(view)[[4, 0, 5]])


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="reads through the mapping")
def test_a_call_that_gives_less_than_was_asked_for_is_followed_by_others(mapped, monkeypatch):
    whole, rows = os.preadv, np.array([3, 4, 5, 9])
    monkeypatch.setattr(os, "preadv", lambda file, buffers, place: whole(file, [buffers[0][:7]], place))
    np.testing.assert_array_equal(RowReader({"tokens": mapped})[rows]["tokens"], np.asarray(mapped)[rows])


def test_a_file_that_became_shorter_is_refused_and_a_removed_one_still_read(tmp_path, mapped):
    copy = tmp_path / "copy.npy"
    copy.write_bytes((tmp_path / "tokens.npy").read_bytes())
    reader = RowReader({"tokens": np.load(copy, mmap_mode="r")})
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size - 60)
    with pytest.raises(StoreError, match=r"copy\.npy ends before row 199: extract its features again"):
        reader[np.array([3, 199])]
    (tmp_path / "tokens.npy").unlink()
    assert RowReader({"tokens": mapped})[np.array([3])]["tokens"][0, 0, 0] == 90


def test_changes_of_a_copy_on_write_map_survive(tmp_path, mapped):
    private = np.load(tmp_path / "tokens.npy", mmap_mode="c")
    private[0] = 7
    reader = RowReader({"tokens": private})
    assert (reader[np.array([0])]["tokens"] == 7).all()


def test_kinds_of_different_lengths_are_refused(mapped):
    with pytest.raises(InputError, match=r"kinds of different lengths were given, \{'tokens': 200, 'pooled': 9\}"):
        RowReader({"tokens": mapped, "pooled": np.zeros((9, 2))})
