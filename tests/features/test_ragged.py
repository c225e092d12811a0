"""Rows that differ in length, in the feature store."""

import shutil

import numpy as np
import pytest
import torch
from extraction_parent import pass_folder
from extraction_toys import get

from probe.core.errors import InputError, StoreError
from probe.core.ragged import Ragged

RAGGED = "words"


def test_rows_that_differ_in_length_are_stored_without_padding_and_read_with_it(store, backbone, make_dataset):
    dataset = make_dataset(50, broken=(3, *range(16, 24)))
    found = get(store, backbone, dataset, [RAGGED, "pooled"], on_error="skip")
    words = backbone.extract(torch.from_numpy(dataset.partitions["train"].rows), [RAGGED])[RAGGED]
    rows = [part.numpy().astype(np.float16) for part in torch.split(words.values, words.lengths.tolist())]
    array = found.arrays[RAGGED]
    assert array.dtype == np.float16
    assert array.shape == (50, 4, 64)
    for row, expected in enumerate(rows):
        np.testing.assert_array_equal(array[row], expected if found.valid[row] else expected[:0])
    two = np.array([30, 2])
    longest = max(len(rows[30]), len(rows[2]))
    assert array[two].shape == (2, longest, 64)
    np.testing.assert_array_equal(array[two][1], np.pad(rows[2], ((0, longest - len(rows[2])), (0, 0))))
    folder = pass_folder(store.root)
    plain, offsets = np.load(folder / "words.npy", mmap_mode="r"), np.load(folder / "words.offsets.npy")
    assert len(plain) == offsets[-1] == sum(len(row) for row, valid in zip(rows, found.valid, strict=True) if valid)
    np.testing.assert_array_equal(plain[offsets[30] : offsets[31]], rows[30])


def test_tokens_of_rows_that_differ_in_length_are_stored_as_bytes_too(store, backbone, make_dataset):
    backbone.kinds, backbone.ragged = ("tokens",), ("tokens",)
    plain = backbone.extract
    backbone.extract = lambda batch, kinds: {"tokens": plain(batch, ["words"])["words"]}
    exact = get(store, backbone, make_dataset(30), ["tokens"], dtypes={"tokens": "float32"}).arrays["tokens"]
    array = get(store, backbone, make_dataset(30), ["tokens"], dtypes={"tokens": "int8"}).arrays["tokens"]
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[:], exact[:], atol=4 / 127)
    assert (array[:] != exact[:]).any()


def test_rows_that_differ_in_length_are_refused_where_the_disk_cannot_hold_them(
    store, backbone, make_dataset, monkeypatch
):
    whole = get(store, backbone, make_dataset(100), [RAGGED]).arrays[RAGGED]
    n_bytes = sum(len(whole[row]) * 64 * 2 for row in range(100))
    usage = shutil.disk_usage(store.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=n_bytes))  # and as much for segments
    shutil.rmtree(store.root)
    with pytest.raises(StoreError, match=r"features of 100 rows need .* MiB and the cache has .* MiB free: make room"):
        get(store, backbone, make_dataset(100), [RAGGED])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * n_bytes))
    assert len(get(store, backbone, make_dataset(100), [RAGGED]).arrays[RAGGED]) == 100


def test_rows_that_differ_in_length_are_put_in_order_where_the_disk_still_holds_them(
    store, backbone, make_dataset, monkeypatch
):
    usage = shutil.disk_usage(store.root.parent)
    free = iter([usage.free, 100])  # something else has filled it up meanwhile
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=next(free)))
    with pytest.raises(StoreError, match=r"MiB of features are to be put in the order .* what is extracted is kept"):
        get(store, backbone, make_dataset(30), [RAGGED])
    assert not list(store.root.rglob("*.npy"))
    monkeypatch.undo()
    monkeypatch.setattr(backbone, "extract", None)
    assert len(get(store, backbone, make_dataset(30), [RAGGED]).arrays[RAGGED]) == 30


@pytest.mark.parametrize(
    ("lengths", "sentence"),
    [([2, 0, 1], r"row 1 \(images/0001.png\) has no words of backbone toy, expected at least 1"),
     ([2, 2, 2], "backbone toy gave 3 words for 3 rows of 6 in all, expected those of 3 rows one after the other")],
)  # fmt: skip
def test_lengths_that_cannot_be_are_refused(store, backbone, make_dataset, lengths, sentence):
    backbone.extract = lambda batch, kinds: {"words": Ragged(torch.ones(3, 4), torch.tensor(lengths))}
    with pytest.raises(InputError, match=sentence):
        get(store, backbone, make_dataset(3), [RAGGED])
