"""Shuffled labels: which are permuted, and what stays."""

import numpy as np
import pytest

from probe.core.base import Dataset, Rows, Split
from probe.core.errors import DoesNotFit
from probe.datasets.shared.partitions import ArrayPartition
from probe.datasets.sklearn import load
from probe.experiment.shuffling import check_shuffle, shuffle_labels
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.protocols.label_noise import LabelNoise

PROTOCOLS = [Full(), FewShot(k=3), LabelNoise(Full(), 0.3), CrossValidation()]
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def seen(dataset, split):
    return np.asarray(dataset.partitions["train"].labels) if split.train_labels is None else split.train_labels


@every_protocol
def test_each_part_keeps_its_classes_and_rows_lose_theirs(digits, protocol):
    before = protocol.split(digits, 0)
    after = shuffle_labels(before, digits, 0)
    for name, part in before.parts.items():
        np.testing.assert_array_equal(after.parts[name].indices, part.indices)
    for part in (before.train, before.validation):
        old, new = seen(digits, before)[part.indices], seen(digits, after)[part.indices]
        np.testing.assert_array_equal(np.bincount(old, minlength=10), np.bincount(new, minlength=10))
        if len(part) > 50:
            assert (old == new).mean() < 0.25


@every_protocol
def test_labels_of_rows_that_test_stay(digits, protocol):
    before = protocol.split(digits, 0)
    after = shuffle_labels(before, digits, 0)
    if before.test.partition == "train":
        np.testing.assert_array_equal(
            seen(digits, after)[before.test.indices], seen(digits, before)[before.test.indices]
        )


def test_seeds_differ_and_one_seed_does_not(digits):
    split = Full().split(digits, 0)
    first, again, other = (shuffle_labels(split, digits, seed).train_labels for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_permutation_is_the_frozen_one(digits):
    labels = shuffle_labels(Full().split(digits, 0), digits, 0).train_labels
    assert labels[:12].tolist() == [1, 8, 9, 4, 6, 2, 5, 6, 7, 9, 0, 3]


def test_a_validation_partition_of_its_own_keeps_its_labels():
    X, y = np.zeros((20, 2)), np.arange(20) % 2
    parts = {
        name: ArrayPartition(X + i, y, map(str, range(20))) for i, name in enumerate(("train", "validation", "test"))
    }
    dataset = Dataset("d", ("a", "b"), parts)
    rows = np.arange(20)
    split = Split(Rows("train", rows), Rows("validation", rows[:0]), Rows("test", rows))
    after = shuffle_labels(split, dataset, 0)
    assert after.validation is split.validation
    assert (after.train_labels != y).any()
    np.testing.assert_array_equal(y, np.arange(20) % 2)  # nothing of the dataset is written into


def test_rows_of_several_labels_are_permuted_whole():
    y = (np.random.default_rng(0).random((40, 3)) < 0.4).astype(int)
    dataset = Dataset("d", ("a", "b", "c"), {"train": ArrayPartition(np.zeros((40, 2)), y, map(str, range(40)))})
    rows = np.arange(40)
    split = Split(Rows("train", rows), Rows("train", rows[:0]), Rows("train", rows[:0]))
    labels = shuffle_labels(split, dataset, 0).train_labels
    assert sorted(map(tuple, labels)) == sorted(map(tuple, y))
    assert (labels != y).any()


def test_tasks_and_texts_are_refused():
    with pytest.raises(DoesNotFit, match="protocol class_incremental gives its rows task by task: leave it out"):
        check_shuffle(ClassIncremental(), reads_texts=False)
    with pytest.raises(DoesNotFit, match="a head that reads texts learns from no label"):
        check_shuffle(Full(), reads_texts=True)
