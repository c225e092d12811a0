from __future__ import annotations

import numpy as np
import pytest

from probe.core.errors import InputError
from probe.protocols.official import Official


def test_partitions_are_taken_whole_whatever_the_seed(make_dataset):
    dataset = make_dataset([5, 5], validation=np.array([0, 1, 1]))
    for seed in (0, 1):
        split = Official().split(dataset, seed)
        assert (len(split.train), len(split.validation), len(split.test)) == (10, 3, 2)
        assert split.validation.partition == "validation"


def test_dataset_without_validation_is_refused(make_dataset):
    text = r"dataset rows has no partition validation, only \['test', 'train'\]: take protocol full"
    with pytest.raises(InputError, match=text):
        Official().split(make_dataset([5, 5]), 0)
