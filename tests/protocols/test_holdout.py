from __future__ import annotations

import numpy as np
import pytest

from probe.core.base import digest
from probe.core.errors import InputError
from probe.protocols.holdout import Holdout


def test_every_row_has_one_part_and_classes_are_halved(make_dataset):
    dataset = make_dataset([40, 21, 10])
    split = Holdout(0.5, 0.2).split(dataset, 0)
    rows = [split.train.indices, split.validation.indices, split.test.indices]
    assert {part.partition for part in split.parts.values()} == {"train"}
    assert sorted(np.concatenate(rows)) == list(range(71))
    tested = np.bincount(dataset.partitions["train"].labels[split.test.indices])
    np.testing.assert_allclose(tested, [20, 10.5, 5], atol=0.5)


def test_seeds_draw_other_rows_and_the_test_partition_is_not_needed(make_dataset):
    dataset = make_dataset([50, 50])
    del dataset.partitions["test"]
    first, second = (Holdout(0.5, 0).split(dataset, seed) for seed in (0, 1))
    assert not len(first.validation)
    assert 10 < len(set(first.test.indices) & set(second.test.indices)) < 40


def test_rows_are_frozen(make_dataset):
    rows = Holdout(0.5, 0.2).split(make_dataset([400] * 5), 3).test.indices
    assert digest(rows.tolist()) == "bc1fd43f9306c93e9eaf2e9ace5292c8"


def test_a_class_of_one_row_trains(make_dataset):
    split = Holdout(0.9, 0).split(make_dataset([20, 1]), 0)
    assert 20 in split.train.indices


@pytest.mark.parametrize("fraction", [0, 1, -0.5])
def test_shares_that_leave_a_part_empty_are_refused(fraction, make_dataset):
    with pytest.raises(InputError, match=f"test_fraction is {fraction}, expected above 0 and below 1"):
        Holdout(fraction)
    with pytest.raises(InputError, match=r"test_fraction 0\.001 of dataset rows is no row"):
        Holdout(0.001).split(make_dataset([20, 20]), 0)
