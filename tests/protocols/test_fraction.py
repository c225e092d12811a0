from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from probe.core.base import digest
from probe.core.errors import InputError
from probe.protocols.fraction import Fraction


def drawn(dataset, fraction, seed=0):
    split = Fraction(fraction).split(dataset, seed)
    return np.sort(np.concatenate([split.train.indices, split.validation.indices]))


def test_share_of_every_class(make_dataset):
    dataset = make_dataset([100, 50, 30])
    assert np.bincount(dataset.partitions["train"].labels[drawn(dataset, 0.1)]).tolist() == [10, 5, 3]


def test_rows_of_one_percent_are_among_those_of_ten_percent(make_dataset):
    dataset = make_dataset([333, 100, 51])
    sizes = [set(drawn(dataset, f)) for f in (0.01, 0.013, 0.1, 0.101, 0.5, 1.0)]
    for few, many in pairwise(sizes):
        assert few <= many
    assert len(sizes[-1]) == 484


def test_rows_are_frozen(make_dataset):
    assert digest(drawn(make_dataset([400] * 25), 0.01, seed=3).tolist()) == "d022cca259ab806277286e09eb4fc9de"


def test_fraction_that_empties_a_class_is_refused(make_dataset):
    text = r"fraction 0.01 leaves 2 of 3 classes of dataset rows without a training row \(the smallest, c2, has 20\)"
    with pytest.raises(InputError, match=text + ": set protocol.fraction to 0.025 or more"):
        Fraction(0.01).split(make_dataset([100, 40, 20]), 0)
    Fraction(0.025).split(make_dataset([100, 40, 20]), 0)


@pytest.mark.parametrize("fraction", [0, -1, 1.01])
def test_fraction_outside_is_refused(fraction):
    with pytest.raises(InputError, match=f"fraction is {fraction}, expected above 0 and at most 1"):
        Fraction(fraction)
