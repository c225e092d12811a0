"""Rows that are mappings of tensors, and batches that a backbone collates itself."""

import numpy as np
import pytest
import torch
from extraction_toys import ToyBackbone, toy_dataset

from probe.core.abilities import Collates
from probe.features.store import FeatureStore


class Named(ToyBackbone):
    """Reads a mapping, as models with masks do."""

    def transform(self, row):
        numbers = super().transform(row)
        return {"numbers": numbers, "mask": torch.ones(len(numbers), dtype=torch.bool)}

    def extract(self, batch, kinds):
        assert set(batch) == {"numbers", "mask"}
        return super().extract(batch["numbers"] * batch["mask"], kinds)


class Padded(ToyBackbone):
    """Rows differ in length; batches are as long as the longest."""

    def transform(self, row):
        numbers = super().transform(row)
        return {"numbers": numbers[: 6 + int(numbers[0] > 0)]}

    def collate(self, rows):
        return {"numbers": torch.nn.utils.rnn.pad_sequence([row["numbers"] for row in rows], batch_first=True)}

    def extract(self, batch, kinds):
        numbers = batch["numbers"]
        padded = torch.zeros(len(numbers), 12)
        padded[:, : numbers.shape[1]] = numbers
        return super().extract(padded, kinds)


def get(root, backbone, dataset=None, **options):
    options = {"batch_size": 8, "progress": False, "device": "cpu"} | options
    return FeatureStore(root).get(backbone, dataset or toy_dataset(30), "train", ["pooled"], **options)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_mappings_of_tensors_travel_as_tensors_do(tmp_path, n_workers):
    plain = get(tmp_path / "plain", ToyBackbone()).arrays["pooled"][:]
    np.testing.assert_array_equal(get(tmp_path / "named", Named(), n_workers=n_workers).arrays["pooled"][:], plain)


def test_rows_that_cannot_be_decoded_leave_the_others_of_a_mapping_as_they_are(tmp_path):
    plain = get(tmp_path / "plain", Named()).arrays["pooled"][:]
    holes = get(tmp_path / "holes", Named(), toy_dataset(30, broken=(3, 11)), on_error="skip")
    np.testing.assert_array_equal(holes.arrays["pooled"][:][holes.valid], plain[holes.valid])


@pytest.mark.parametrize("n_workers", [0, 2])
def test_rows_of_different_lengths_are_collated_by_the_backbone(tmp_path, n_workers):
    assert isinstance(Padded(), Collates)
    found = get(tmp_path, Padded(), n_workers=n_workers).arrays["pooled"][:]
    dataset, backbone = toy_dataset(30), Padded()
    for row in (0, 7, 29):
        alone = backbone.extract(backbone.collate([backbone.transform(dataset.partitions["train"][row])]), ["pooled"])
        np.testing.assert_allclose(found[row], alone["pooled"][0], rtol=1e-5, atol=1e-6)
