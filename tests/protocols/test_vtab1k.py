from __future__ import annotations

import pytest

from probe.core.base import digest
from probe.core.errors import InputError
from probe.protocols.vtab1k import Vtab1k


def test_eight_hundred_train_and_two_hundred_validate(make_dataset):
    split = Vtab1k().split(make_dataset([600] * 5), 0)
    assert (len(split.train), len(split.validation), len(split.test)) == (800, 200, 5)
    assert not set(split.train.indices) & set(split.validation.indices)


def test_rows_are_frozen(make_dataset):
    assert (
        digest(Vtab1k().split(make_dataset([400] * 25), 3).train.indices.tolist()) == "0dc11da95df3b1c19da620d0e2bbb7a8"
    )


def test_fewer_than_a_thousand_rows_are_refused(make_dataset):
    with pytest.raises(InputError, match=r"vtab1k draws 800 \+ 200 training rows, dataset rows has 999"):
        Vtab1k().split(make_dataset([499, 500]), 0)
