from __future__ import annotations

import numpy as np
import pytest

from probe.core.base import digest
from probe.core.errors import InputError
from probe.protocols.full import Full


def test_train_and_validation_divide_the_train_partition(make_dataset):
    dataset = make_dataset([50, 30, 20])
    split = Full().split(dataset, 0)
    assert split.train.partition == split.validation.partition == "train"
    assert sorted([*split.train.indices, *split.validation.indices]) == list(range(100))
    assert split.test.partition == "test"
    assert split.test.indices.tolist() == [0, 1, 2]
    labels = dataset.partitions["train"].labels
    assert np.bincount(labels[split.validation.indices]).tolist() == [10, 6, 4]


def test_rows_are_the_same_on_every_machine_and_version(make_dataset):
    small = Full().split(make_dataset([12, 8]), 0)
    assert small.validation.indices.tolist() == [10, 12, 16, 17]
    big = Full(0.1).split(make_dataset([400] * 25), 7)
    assert digest(big.validation.indices.tolist()) == "3e4e8def91b707927d6d8a0b4fe7f149"


def test_another_seed_or_another_content_draws_other_rows(make_dataset):
    dataset = make_dataset([50, 30, 20])
    other = make_dataset([50, 30, 20])
    other.partitions["train"].fingerprint = "g"
    drawn = [Full().split(d, seed).validation.indices.tolist() for d, seed in ((dataset, 0), (dataset, 1), (other, 0))]
    assert drawn[0] != drawn[1]
    assert drawn[0] != drawn[2]


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5])
def test_every_class_keeps_a_training_row(make_dataset, fraction):
    dataset = make_dataset([1, 2, 3, 100])
    split = Full(fraction).split(dataset, 3)
    assert set(dataset.partitions["train"].labels[split.train.indices]) == {0, 1, 2, 3}
    assert len(split.validation) == pytest.approx(fraction * 106, abs=6)


def test_validation_total_is_the_rounded_share_of_many_small_classes(make_dataset):
    assert len(Full(0.2).split(make_dataset([7] * 100), 0).validation) == 140


def test_each_row_validates_equally_often(make_dataset):
    dataset = make_dataset([20, 20])
    times = sum(np.bincount(Full().split(dataset, s).validation.indices, minlength=40) for s in range(500))
    assert abs(times - 100).max() < 4.5 * np.sqrt(500 * 0.2 * 0.8)


def test_dataset_without_test_is_refused(make_dataset):
    dataset = make_dataset([5, 5])
    del dataset.partitions["test"]
    with pytest.raises(InputError, match=r"dataset rows has no partition test, only \['train'\]: .*cross_validation"):
        Full().split(dataset, 0)


@pytest.mark.parametrize("fraction", [-0.1, 0.6, 1, 1.5])
def test_fraction_outside_is_refused(fraction):
    with pytest.raises(InputError, match=f"validation_fraction is {fraction}, expected from 0 to 0.5, so that no more"):
        Full(fraction)
