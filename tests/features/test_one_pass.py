"""Features in memory are those of the store."""

import numpy as np
import pytest
import torch
from extraction_toys import ToyBackbone, Unguarded, toy_dataset

from probe.core.errors import InputError
from probe.features.one_pass import OnePass
from probe.features.store import FeatureStore

OPTIONS = {"batch_size": 8, "n_workers": 0, "device": "cpu", "progress": False}


@pytest.mark.parametrize("n_workers", [0, 1])
def test_all_rows_are_the_bits_of_the_store(tmp_path, n_workers):
    kinds, data = ["pooled", "tokens", "blocks.0"], toy_dataset(30)
    options = {**OPTIONS, "n_workers": n_workers}
    ours = OnePass({"train": np.arange(30)}, kinds).get(ToyBackbone(), data, "train", kinds, **options)
    theirs = Unguarded(tmp_path).get(ToyBackbone(), data, "train", kinds, **options)
    for kind in kinds:
        assert ours.arrays[kind].dtype == theirs.arrays[kind].dtype
        np.testing.assert_array_equal(ours.arrays[kind], theirs.arrays[kind])
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert list(ours.ids) == list(theirs.ids)
    assert ours.valid.all()


def test_each_row_is_computed_once_for_all_kinds_and_others_never():
    rows, data, backbone = np.array([2, 3, 17, 29]), toy_dataset(30), ToyBackbone()
    one = OnePass({"train": rows}, ["pooled", "tokens"], guarded=True)
    pooled = one.get(backbone, data, "train", ["pooled"], **OPTIONS).arrays
    tokens = one.get(backbone, data, "train", ["tokens"], **OPTIONS).arrays
    assert backbone.rows_extracted == 4
    assert (list(pooled), list(tokens)) == (["pooled"], ["tokens"])
    expected = torch.stack([backbone.transform(data.partitions["train"][row]) for row in rows])
    np.testing.assert_allclose(pooled["pooled"][rows], torch.tanh(expected @ backbone.weight), rtol=1e-5)
    others = np.setdiff1d(np.arange(30), rows)
    assert not pooled["pooled"][others].any()


def test_rows_that_differ_in_length_are_those_of_the_store(root):
    data, rows = toy_dataset(30, broken=(4,)), np.array([1, 2, 4, 9, 17, 28])
    kept = FeatureStore(root).get(ToyBackbone(), data, "train", ["words"], on_error="skip", **OPTIONS).arrays["words"]
    once = OnePass({"train": rows}, ["words"]).get(ToyBackbone(), data, "train", ["words"], on_error="skip", **OPTIONS)
    np.testing.assert_array_equal(once.arrays["words"][rows], kept[rows])
    assert once.arrays["words"].lengths.sum() == kept.lengths[rows].sum()


def test_features_that_are_no_function_of_the_row_are_refused():
    backbone, data = ToyBackbone(), toy_dataset(30)
    plain = backbone.extract
    backbone.extract = lambda batch, kinds: plain(batch + torch.randn(1), kinds)
    with pytest.raises(InputError, match="differ between two extractions of the same rows"):
        OnePass({"train": np.arange(30)}, ["pooled"]).get(backbone, data, "train", ["pooled"], **OPTIONS)


def test_rows_that_cannot_be_decoded_are_named_or_left_out():
    backbone, data = ToyBackbone(), toy_dataset(30)
    plain, bad = backbone.transform, np.asarray(data.partitions["train"][17])

    def transform(row):
        if np.array_equal(row, bad):
            raise ValueError("broken")
        return plain(row)

    backbone.transform = transform
    one = OnePass({"train": np.arange(10, 30)}, ["pooled"])
    name = data.partitions["train"].ids[17]
    with pytest.raises(InputError, match=rf"\({name}\) cannot be decoded \(ValueError: broken\)"):
        one.get(backbone, data, "train", ["pooled"], **OPTIONS)
    found = one.get(backbone, data, "train", ["pooled"], on_error="skip", **OPTIONS)
    assert np.flatnonzero(~found.valid).tolist() == [17]
    assert found.arrays["pooled"][18:].any(axis=1).all()


def test_what_the_store_refuses_is_refused():
    with pytest.raises(InputError, match="has no partition 'dev'"):
        OnePass({"dev": np.arange(3)}, ["pooled"]).get(ToyBackbone(), toy_dataset(30), "dev", ["pooled"], **OPTIONS)
