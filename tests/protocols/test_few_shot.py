from __future__ import annotations

import numpy as np
import pytest

from probe.core.base import digest
from probe.core.errors import InputError
from probe.protocols.few_shot import FewShot


def drawn(dataset, k, seed=0):
    split = FewShot(k).split(dataset, seed)
    return np.sort(np.concatenate([split.train.indices, split.validation.indices]))


@pytest.mark.parametrize("k", [1, 4, 5, 10])
def test_k_rows_of_every_class(make_dataset, k):
    dataset = make_dataset([10, 40, 25])
    assert np.bincount(dataset.partitions["train"].labels[drawn(dataset, k)]).tolist() == [k, k, k]


def test_draws_are_nested_in_k(make_dataset):
    dataset = make_dataset([30] * 4)
    for few, many in ((1, 2), (2, 5), (5, 16)):
        assert set(drawn(dataset, few)) < set(drawn(dataset, many))


def test_all_test_rows_test_and_the_seed_draws(make_dataset):
    dataset = make_dataset([30] * 4)
    assert len(FewShot(2).split(dataset, 0).test) == 4
    assert drawn(dataset, 2, seed=0).tolist() != drawn(dataset, 2, seed=1).tolist()


def test_below_five_rows_folds_validate(make_dataset):
    dataset = make_dataset([30] * 4)
    assert FewShot(4).split(dataset, 0).folds is not None
    split = FewShot(5).split(dataset, 0)
    assert np.bincount(dataset.partitions["train"].labels[split.validation.indices]).tolist() == [1, 1, 1, 1]
    assert split.folds is None


def test_rows_are_frozen(make_dataset):
    assert drawn(make_dataset([10, 10]), 2).tolist() == [2, 4, 12, 17]
    assert digest(drawn(make_dataset([400] * 25), 16, seed=3).tolist()) == "9a95b69967bab1f50a27c5de82c4b23a"


def test_more_than_the_smallest_class_is_refused(make_dataset):
    text = "k is 11, but class c1 of dataset rows has only 10 training rows: set protocol.k to 10 or less"
    with pytest.raises(InputError, match=text):
        FewShot(11).split(make_dataset([30, 10]), 0)


def test_k_below_one_is_refused():
    with pytest.raises(InputError, match="k is 0, expected at least 1 row per class"):
        FewShot(0)
