"""Tokens that are stored as bytes, by way of the store."""

import numpy as np
import pytest
import torch

from probe.core.errors import InputError, StoreError
from probe.core.int8 import pack, unpack
from probe.features.one_pass import OnePass
from probe.features.store import FeatureStore


def get(root, backbone, dataset, dtype="int8", **options):
    dtypes = {"tokens": dtype}
    options = {"batch_size": 16, "progress": False, **options}
    return FeatureStore(root).get(backbone, dataset, "train", ["tokens"], dtypes=dtypes, **options)


def expected(backbone, dataset):
    rows = torch.from_numpy(dataset.partitions["train"].rows)
    return unpack(pack(backbone.extract(rows, ["tokens"])["tokens"]).numpy())


def test_tokens_come_back_as_numbers_close_to_what_the_backbone_gave(root, backbone, make_dataset):
    found = get(root, backbone, make_dataset())
    assert found.arrays["tokens"].dtype == np.float32
    np.testing.assert_allclose(found.arrays["tokens"][:], expected(backbone, make_dataset()), atol=1e-6)
    assert get(root, backbone, make_dataset()).seconds == 0
    assert get(root, backbone, make_dataset(), "float16").digest != found.digest


def test_without_the_store_they_are_the_same_numbers(root, backbone, make_dataset):
    kept, dataset = get(root, backbone, make_dataset()), make_dataset()
    once = OnePass({"train": np.arange(100)}, ["tokens"])
    found = once.get(backbone, dataset, "train", ["tokens"], dtypes={"tokens": "int8"}, batch_size=16, progress=False)
    assert np.array_equal(found.arrays["tokens"][:], kept.arrays["tokens"][:])


@pytest.mark.parametrize("width", [64, 384])
def test_they_take_half_the_disk_of_float16_and_two_bytes_a_token(root, make_backbone, make_dataset, width):
    get(root, make_backbone(width=width), make_dataset())
    get(root, make_backbone(width=width), make_dataset(), "float16")
    small, large = sorted(path.stat().st_size - 4096 for path in root.rglob("tokens.npy"))
    assert small == 100 * 3 * (width + 4)
    assert large == 2 * 100 * 3 * width


def test_rows_that_cannot_be_decoded_hold_no_number(root, backbone, make_dataset):
    broken = (3, *range(16, 32))  # one row among others, and a block of nothing else
    found = get(root, backbone, make_dataset(broken=broken), on_error="skip")
    assert np.flatnonzero(~found.valid).tolist() == list(broken)
    assert (np.isnan(found.arrays["tokens"][:]).all(axis=(1, 2)) == ~found.valid).all()
    assert np.isfinite(found.arrays["tokens"][:][found.valid]).all()


def test_bytes_that_changed_on_disk_are_told_before_they_are_numbers(root, make_backbone, make_dataset):
    get(root, make_backbone(width=8192), make_dataset())
    (path,) = root.rglob("tokens.npy")
    with open(path, "r+b") as file:
        file.seek(4096 + 20 * 3 * 8196)
        file.write(b"\x7f\x01\x7f")
    with pytest.raises(StoreError, match="do not match their checksum"):
        get(root, make_backbone(width=8192), make_dataset()).arrays["tokens"][20:21]


def test_numbers_that_are_none_are_refused_as_ever(root, make_backbone, make_dataset):
    backbone = make_backbone()
    backbone.weight[0] = torch.nan
    with pytest.raises(InputError, match="are not finite"):
        get(root, backbone, make_dataset())


def test_kinds_without_a_vector_per_token_are_not_stored_as_bytes(root, backbone, make_dataset):
    for kind in ("map", "blocks.0"):
        with pytest.raises(InputError, match=rf"dtypes\.{kind} is 'int8': choose from \['float16', 'float32'\]"):
            FeatureStore(root).get(backbone, make_dataset(), "train", [kind], dtypes={kind: "int8"}, progress=False)
    with pytest.raises(InputError, match=r"dtypes\.tokens is 'int4': choose from \['float16', 'float32', 'int8'\]"):
        get(root, backbone, make_dataset(), "int4")
