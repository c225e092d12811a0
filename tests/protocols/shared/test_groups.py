from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from probe.core.base import Rows, Split
from probe.core.errors import InputError
from probe.core.targets.number import Number
from probe.datasets.shared.partitions import ArrayPartition
from probe.datasets.shared.partitions import make_dataset as datasets_of
from probe.datasets.shared.row_facts import know
from probe.protocols.few_shot import FewShot
from probe.protocols.fraction import Fraction
from probe.protocols.full import Full
from probe.protocols.holdout import Holdout
from probe.protocols.long_tail import LongTail
from probe.protocols.rows import RandomRows
from probe.protocols.shared.groups import (
    divided_groups,
    grouped_folds,
    groups_across,
    groups_of,
    held_out_groups,
    keep_together,
)
from probe.protocols.shared.strata import with_strata
from probe.protocols.vtab1k import Vtab1k


def grouped(make_dataset, counts=(60, 60), n_groups=30, seed=0):
    """Rows of each class in random groups; a group may have rows of several classes."""
    dataset = make_dataset(list(counts))
    n = len(dataset.partitions["train"])
    groups = np.random.default_rng(seed).integers(0, n_groups, n)
    groups[:n_groups] = np.arange(n_groups)
    dataset.partitions["train"].groups = np.char.add("patient ", groups.astype(str))
    return dataset


def chance(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**63, n).astype(np.uint64)


DRAWS = [
    Full(),
    Full(validation_fraction=0.0),
    Holdout(),
    Holdout(0.3, 0.0),
    FewShot(3),
    FewShot(16),
    Fraction(0.5),
    RandomRows(50),
    RandomRows(50, stratified=True),
    LongTail(Full(), 10.0),
]


@pytest.mark.parametrize("protocol", DRAWS, ids=repr)
@pytest.mark.parametrize("n_groups", [8, 30, 90])
def test_a_group_trains_validates_or_tests_and_is_in_one_fold_as_a_whole(make_dataset, protocol, n_groups):
    dataset = grouped(make_dataset, n_groups=n_groups)
    groups, labels = groups_of(dataset), dataset.partitions["train"].labels
    for seed in range(3):
        split = keep_together(dataset, protocol.split(dataset, seed), protocol.name)
        parts = [rows for rows in split.parts.values() if rows.partition == "train" and len(rows)]
        if split.folds is not None:
            assert len(split.validation) == 0
            parts += [Rows("train", split.train.indices[split.folds == fold]) for fold in np.unique(split.folds)]
            parts.remove(split.train)
        seen = [set(groups[rows.indices]) for rows in parts]
        assert sum(map(len, seen)) == len(set.union(*seen))
        assert len(split.validation) or split.folds is not None  # the head is never left to choose by itself
        assert set(labels[split.train.indices]) == {0, 1}
        assert divided_groups(dataset, split) == 0


def test_about_the_share_of_each_class_is_held_out_and_the_seed_draws_which(make_dataset):
    dataset = grouped(make_dataset, (200, 100, 50), 60)
    groups, labels = groups_of(dataset), dataset.partitions["train"].labels
    drawn = [held_out_groups(labels, groups, 0.3, chance(60, seed)) for seed in range(20)]
    shares = np.array([[held[labels == k].mean() for k in range(3)] for held in drawn])
    assert shares.mean(axis=0) == pytest.approx(0.3, abs=0.05)
    assert shares == pytest.approx(0.3, abs=0.15)
    assert len({tuple(np.unique(groups[held])) for held in drawn}) == 20
    assert len(set(np.concatenate([groups[held] for held in drawn]))) > 50


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_no_class_is_held_out_as_a_whole(fraction):
    labels = np.array([0] * 20 + [1] * 20 + [2, 2, 2])
    groups = np.array([*np.arange(40) // 4, 10, 10, 11])
    for seed in range(20):
        held = held_out_groups(labels, groups, fraction, chance(12, seed))
        assert set(labels[~held]) == {0, 1, 2}
        assert held.any()


def test_a_group_without_which_a_class_would_be_gone_is_in_no_fold():
    labels = np.array([0, 0, 1, 1, 1, 1, 2])
    groups = np.array([0, 1, 0, 1, 2, 3, 4])  # class 2 stands in group 4 alone
    folds = grouped_folds(labels, groups)
    assert folds[-1] == -1
    assert (folds[:-1] >= 0).all()
    for fold in range(5):
        assert set(labels[folds != fold]) == {0, 1, 2}


def test_one_group_per_class_leaves_nothing_to_choose_on(make_dataset):
    assert grouped_folds(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])).tolist() == [-1] * 4
    dataset = make_dataset([5, 5])
    dataset.partitions["train"].groups = dataset.partitions["train"].labels
    assert set(Full().split(dataset, 0).folds) == {-1}
    with pytest.raises(InputError, match="each of the 2 of dataset rows holds all training rows of a class: add rows"):
        Holdout().split(dataset, 0)


def test_a_protocol_that_divides_groups_is_refused_by_name(make_dataset):
    dataset = grouped(make_dataset, (600, 600), 100)
    text = r"protocol vtab1k divides \d+ of 100 groups of dataset rows between training.*such as rows, holdout or"
    with pytest.raises(InputError, match=text):
        keep_together(dataset, Vtab1k().split(dataset, 0), "vtab1k")
    split = Full(validation_fraction=0.0).split(dataset, 0)
    torn = replace(split, folds=np.arange(1200) % 5)
    with pytest.raises(InputError, match="protocol mine divides 100 of 100 groups"):
        keep_together(dataset, torn, "mine")


def test_rows_without_groups_are_left_alone(make_dataset):
    dataset = make_dataset([30, 30])
    split = Full(validation_fraction=0.0).split(dataset, 0)
    assert keep_together(dataset, split, "full") is split
    assert divided_groups(dataset, split) is None


def test_groups_that_official_partitions_share_are_counted_by_name(make_dataset):
    dataset = make_dataset([10, 10])
    dataset.partitions["train"].groups = np.arange(20) // 2  # 0 .. 9
    split = Full().split(dataset, 0)
    assert divided_groups(dataset, split) == 0  # test names none
    dataset.partitions["test"].groups = np.array(["3", "new"])
    assert divided_groups(dataset, split) == 1
    assert divided_groups(dataset, split, tests=False) == 0


def test_a_patient_of_a_column_of_floats_is_the_patient_of_a_column_of_whole_numbers(make_dataset):
    dataset = make_dataset([3, 3], test=np.array([0, 1]))
    know(dataset.partitions["train"], {"groups": np.array([3, 3, 1, 1, 2, 2])}, "train")
    know(dataset.partitions["test"], {"groups": np.array([3.0, 2.0])}, "test")
    assert divided_groups(dataset, Full().split(dataset, 0)) == 2
    know(dataset.partitions["test"], {"groups": np.array([3.5, 2.0])}, "test")  # names as they are
    assert divided_groups(dataset, Full().split(dataset, 0)) == 0


def test_numbers_of_groups_hold_across_partitions(make_dataset):
    dataset = make_dataset([3, 3], validation=np.array([0, 1]), bare=np.array([0, 1]))
    dataset.partitions["train"].groups = np.array(list("aabbcc"))
    dataset.partitions["validation"].groups = np.array(list("cd"))
    split = Split(Rows("train", np.arange(1, 5)), Rows("validation", np.arange(2)), Rows("test", np.arange(2)))
    assert groups_across(dataset, [split.train, split.validation]).tolist() == [0, 1, 1, 2, 2, 3]
    assert len(set(groups_across(dataset, [split.train, Rows("bare", np.arange(2))]).tolist())) == 5
    assert groups_across(dataset, [Rows("bare", np.arange(2))]) is None


def test_groups_of_numbers_are_seen_by_every_version_of_python():
    target = Number()
    part = ArrayPartition(np.zeros((20, 2), np.float32), np.arange(20.0), [str(i) for i in range(20)], target=target)
    part.groups = np.arange(20) // 2
    seen = with_strata(datasets_of("numbers", ["y"], {"train": part, "test": part}, target=target)).partitions["train"]
    # `isinstance` asks no more than this from Python 3.12 on.
    assert np.array_equal(inspect.getattr_static(seen, "groups"), part.groups)
