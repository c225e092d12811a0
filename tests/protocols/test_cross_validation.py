from __future__ import annotations

import numpy as np
import pytest

from probe.core.errors import InputError
from probe.protocols.cross_validation import CrossValidation


def test_every_row_tests_once_and_validates_once(make_dataset):
    dataset = make_dataset([13, 7, 31])
    splits = [CrossValidation(5, fold).split(dataset, 0) for fold in range(5)]
    for part in ("test", "validation"):
        assert sorted(np.concatenate([getattr(s, part).indices for s in splits])) == list(range(51))
    for split in splits:
        parts = np.concatenate([split.train.indices, split.validation.indices, split.test.indices])
        assert sorted(parts) == list(range(51))
        assert split.test.partition == "train"


def test_folds_are_stratified_and_equal_in_size(make_dataset):
    dataset = make_dataset([13, 7, 31])
    labels = dataset.partitions["train"].labels
    tests = [CrossValidation(5, fold).split(dataset, 2).test.indices for fold in range(5)]
    assert {len(t) for t in tests} == {10, 11}
    for k, count in enumerate((13, 7, 31)):
        assert {int((labels[t] == k).sum()) for t in tests} <= {count // 5, count // 5 + 1}


def test_smallest_classes_keep_training_rows(make_dataset):
    dataset = make_dataset([3, 50, 3])
    for fold in range(10):
        train = CrossValidation(10, fold).split(dataset, 0).train.indices
        assert set(dataset.partitions["train"].labels[train]) == {0, 1, 2}


def test_test_partition_is_not_needed(make_dataset):
    dataset = make_dataset([5, 5])
    del dataset.partitions["test"]
    assert len(CrossValidation().split(dataset, 0).test) == 2


def grouped(make_dataset, n_groups, seed=0):
    dataset = make_dataset([60, 60])
    groups = np.random.default_rng(seed).integers(0, n_groups, 120)
    groups[:n_groups] = np.arange(n_groups)
    dataset.partitions["train"].groups = groups * 3 + 7  # codes need not run from 0
    return dataset, groups


@pytest.mark.parametrize("n_groups", [5, 6, 12, 40])
def test_no_group_is_in_two_parts_and_no_fold_is_empty(make_dataset, n_groups):
    dataset, groups = grouped(make_dataset, n_groups)
    seen = []
    for fold in range(5):
        split = CrossValidation(5, fold).split(dataset, 0)
        parts = [set(groups[rows.indices]) for rows in (split.train, split.validation, split.test)]
        assert sum(len(part) for part in parts) == len(set.union(*parts))
        assert len(split.test)
        seen += split.test.indices.tolist()
    assert sorted(seen) == list(range(120))


def test_grouped_folds_are_near_to_equal_shares_of_each_class(make_dataset):
    dataset, _ = grouped(make_dataset, 40)
    labels = dataset.partitions["train"].labels
    for fold in range(5):
        assert np.bincount(labels[CrossValidation(5, fold).split(dataset, 0).test.indices]) == pytest.approx(12, abs=4)


def test_rows_are_frozen(make_dataset):
    assert CrossValidation(5, 1).split(make_dataset([10, 10]), 0).test.indices.tolist() == [6, 7, 10, 15]
    dataset, _ = grouped(make_dataset, 12)
    assert CrossValidation(5, 1).split(dataset, 0).test.indices[:8].tolist() == [1, 4, 11, 14, 19, 24, 32, 40]


def test_seed_draws_the_folds(make_dataset):
    dataset = make_dataset([30, 30])
    assert (
        CrossValidation().split(dataset, 0).test.indices.tolist()
        != CrossValidation().split(dataset, 1).test.indices.tolist()
    )


def test_groups_that_make_a_fold_empty_are_refused(make_dataset):
    dataset, _ = grouped(make_dataset, 4)
    with pytest.raises(InputError, match=r"has 4 groups, too few for 5 folds, .*set protocol.n_folds to 4 or less"):
        CrossValidation(5).split(dataset, 0)


def test_class_of_two_rows_is_refused(make_dataset):
    with pytest.raises(InputError, match="class c1 of dataset rows has 2 training rows, cross-validation needs 3"):
        CrossValidation(5).split(make_dataset([30, 2]), 0)


def test_more_folds_than_rows_are_refused(make_dataset):
    with pytest.raises(InputError, match="has 8 training rows, too few for 9 folds"):
        CrossValidation(9).split(make_dataset([4, 4]), 0)


@pytest.mark.parametrize(("n_folds", "fold"), [(2, 0), (5, 5), (5, -1)])
def test_folds_outside_are_refused(n_folds, fold):
    with pytest.raises(InputError, match=f"n_folds is {n_folds} and fold {fold}, expected at least 3 folds"):
        CrossValidation(n_folds, fold)
