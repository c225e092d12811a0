from __future__ import annotations

import numpy as np
import pytest

from probe.core.base import digest
from probe.core.errors import InputError
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.protocols.long_tail import LongTail


def counts(dataset, rows):
    return np.bincount(dataset.partitions[rows.partition].labels[rows.indices]).tolist()


def test_sizes_fall_exponentially_and_test_stays(make_dataset):
    dataset = make_dataset([1250] * 3)
    split = LongTail(Full(0.2), 100).split(dataset, 0)
    assert counts(dataset, split.train) == [1000, 100, 10]
    assert counts(dataset, split.validation) == [250, 25, 3]
    assert len(split.test) == 3


def test_factor_one_changes_nothing(make_dataset):
    dataset = make_dataset([40, 40])
    split, plain = LongTail(Full(), 1).split(dataset, 0), Full().split(dataset, 0)
    assert split.train.indices.tolist() == plain.train.indices.tolist()


def test_classes_that_are_small_already_keep_their_rows(make_dataset):
    dataset = make_dataset([100, 5, 100])
    assert counts(dataset, LongTail(Full(0.0), 4).split(dataset, 0).train) == [100, 5, 25]


def test_kept_rows_are_nested_and_come_from_the_wrapped_protocol(make_dataset):
    dataset = make_dataset([200] * 5)
    kept = [set(LongTail(FewShot(50), f).split(dataset, 3).train.indices) for f in (1, 5, 20)]
    assert kept[2] < kept[1] < kept[0] == set(FewShot(50).split(dataset, 3).train.indices)


def test_folds_follow_their_rows(make_dataset):
    dataset = make_dataset([20] * 3)
    inner, split = FewShot(4).split(dataset, 0), LongTail(FewShot(4), 2).split(dataset, 0)
    fold_of = dict(zip(inner.train.indices, inner.folds, strict=True))
    assert split.folds.tolist() == [fold_of[row] for row in split.train.indices]


def test_cross_validation_tests_on_all_rows_of_its_fold(make_dataset):
    dataset = make_dataset([50] * 3)
    assert len(LongTail(CrossValidation(), 10).split(dataset, 0).test) == 30


def test_rows_are_frozen(make_dataset):
    split = LongTail(Full(), 20).split(make_dataset([400] * 25), 3)
    assert digest(split.train.indices.tolist()) == "1b58854c00696fb754d5d4306a07a5f0"


def test_factor_that_empties_a_class_is_refused(make_dataset):
    text = "imbalance 100 leaves 1 of 3 classes of dataset rows without a training row .the largest has 40.*to 79 or"
    with pytest.raises(InputError, match=text):
        LongTail(Full(0.0), 100).split(make_dataset([40] * 3), 0)
    LongTail(Full(0.0), 79).split(make_dataset([40] * 3), 0)


@pytest.mark.parametrize("imbalance", [0.5, 0, float("nan")])
def test_factor_below_one_is_refused(imbalance):
    with pytest.raises(InputError, match=f"imbalance is {imbalance}, expected at least 1"):
        LongTail(Full(), imbalance)
