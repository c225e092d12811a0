from __future__ import annotations

import numpy as np
import pytest

from probe.protocols.shared.validation import folds_within, split_drawn


def test_from_five_rows_per_class_on_a_part_is_cut_off(make_dataset):
    split = split_drawn(make_dataset([5, 5, 5]), np.arange(15), 0, 0.2)
    assert (len(split.train), len(split.validation), split.folds) == (12, 3, None)


def test_below_five_rows_per_class_folds_take_its_place(make_dataset):
    dataset = make_dataset([4, 4, 4])
    split = split_drawn(dataset, np.arange(12), 0, 0.2)
    assert (len(split.train), len(split.validation)) == (12, 0)
    assert np.bincount(split.folds).tolist() == [3, 3, 2, 2, 2]


@pytest.mark.parametrize("counts", [[2, 2], [2, 3, 4, 4], [1, 4, 2], [1] * 9 + [3]])
def test_no_fold_takes_a_class_out_of_training(make_dataset, counts):
    dataset = make_dataset(counts)
    labels = dataset.partitions["train"].labels
    folds = folds_within(dataset, np.arange(len(labels)), 0)
    for fold in range(5):
        assert set(labels[folds != fold]) == set(range(len(counts)))
    assert sorted(np.flatnonzero(folds == -1)) == sorted(np.flatnonzero(np.bincount(labels)[labels] == 1))


def test_one_row_per_class_leaves_nothing_to_choose_on(make_dataset):
    split = split_drawn(make_dataset([1, 1, 1]), np.arange(3), 0, 0.2)
    assert split.folds is None
    assert len(split.validation) == 0


def test_fraction_zero_asks_for_neither(make_dataset):
    split = split_drawn(make_dataset([3, 3]), np.arange(6), 0, 0.0)
    assert (len(split.train), len(split.validation), split.folds) == (6, 0, None)


def test_folds_are_frozen(make_dataset):
    assert folds_within(make_dataset([4, 3, 1]), np.arange(8), 0).tolist() == [0, 1, 1, -1, 2, 4, 3, 0]
