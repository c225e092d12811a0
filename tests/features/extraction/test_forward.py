"""Batches that are launched ahead of those that are collected: the same features, whatever the delay."""

from pathlib import Path

import numpy as np
import pytest
import torch
from extraction_toys import ToyBackbone, Unguarded, toy_dataset

import probe.features.extraction.contribute
from probe.core.errors import InputError
from probe.features.extraction.contribute import delayed
from probe.features.extraction.forward import Forward

KINDS = ("pooled", "tokens")


@pytest.mark.parametrize("n", [0, 1, 3, 20])
def test_every_item_is_handed_on_in_order(n):
    taken = []
    items = (taken.append(i) or i for i in range(10))
    for position, item in enumerate(delayed(items, n)):
        assert item == position
        assert len(taken) == min(10, position + n + 1)


def get(root: Path, monkeypatch, n_ahead, backbone=None, broken=(), **options):
    class Ahead(Forward):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.n_ahead = n_ahead

    monkeypatch.setattr(probe.features.extraction.contribute, "Forward", Ahead)
    options = {"batch_size": 7, "progress": False, "device": "cpu"} | options
    return Unguarded(root).get(backbone or ToyBackbone(), toy_dataset(100, broken=broken), "train", KINDS, **options)


def test_launching_ahead_changes_no_bit(tmp_path, monkeypatch):
    # Rows 14 to 20 are a block of which nothing can be decoded.
    broken = (3, *range(14, 21), 99)
    plain, ahead = (get(tmp_path / str(n), monkeypatch, n, broken=broken, on_error="skip") for n in (0, 2))
    for kind in KINDS:
        assert np.asarray(plain.arrays[kind]).tobytes() == np.asarray(ahead.arrays[kind]).tobytes()
    assert list(np.flatnonzero(~ahead.valid)) == list(broken)


@pytest.mark.parametrize("n_ahead", [0, 2])
def test_a_bad_row_is_named_by_its_own_number(tmp_path, monkeypatch, n_ahead):
    backbone = ToyBackbone()
    plain = backbone.extract

    def poisoned(batch, kinds):
        features = plain(batch, kinds)
        if backbone.rows_extracted == 49:  # the block of rows 42 to 48
            features["tokens"][3, 1] = torch.nan
        return features

    backbone.extract = poisoned
    with pytest.raises(InputError, match=r"tokens features of row 45 \(images/0045.png\) from backbone toy are not"):
        get(tmp_path, monkeypatch, n_ahead, backbone)


@pytest.mark.gpu
def test_a_gpu_gives_what_a_bare_loop_gives(tmp_path):
    class OnGpu(ToyBackbone):
        def to(self, device):
            self.weight = self.weight.to(device)
            return self

    dataset, backbone = toy_dataset(1000), OnGpu().to("cuda")
    found = Unguarded(tmp_path).get(
        backbone, dataset, "train", KINDS, batch_size=64, n_workers=2, device="cuda", progress=False
    )
    with torch.inference_mode():
        for start in range(0, 1000, 64):
            batch = torch.from_numpy(dataset.partitions["train"].rows[start : start + 64]).cuda()
            bare = backbone.extract(batch, KINDS)
            for kind, dtype in (("pooled", torch.float32), ("tokens", torch.float16)):
                expected = bare[kind].to(dtype).cpu().numpy()
                np.testing.assert_array_equal(found.arrays[kind][start : start + 64], expected)
