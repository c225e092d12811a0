from __future__ import annotations

import numpy as np
import pytest

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.protocols.shared.checks import check_dataset


def test_sound_dataset_passes(make_dataset):
    check_dataset(make_dataset([3, 1]))


@pytest.mark.parametrize(
    ("counts", "others", "text"),
    [
        ([5], {"test": [0]}, r"names 1 class \(c0\), at least 2 are needed"),
        ([5, 0, 5], {}, r"train \(10 rows\) has no row of 1 of 3 classes \(c1\)"),
        ([9] + [0] * 7, {}, r"has no row of 7 of 8 classes \(c1, c2, c3, \.\.\.\)"),
        ([2, 0, 0], {}, r"train \(2 rows\) has no row of 2 of 3 classes \(c1, c2\)"),
        (
            [5, 5],
            {"test": [0, 1, 7, 7]},
            r"2 labels out of range, the first is 7 in row 2 \(2\), where 0 to 1 can be",
        ),
        ([5, 5], {"validation": [-1]}, "validation has 1 label out of range, the first is -1 in row 0"),
        ([5, 5], {"test": []}, "test has no rows"),
    ],
)
def test_unusable_dataset_is_refused(make_dataset, counts, others, text):
    with pytest.raises(InputError, match=text):
        check_dataset(make_dataset(counts, **{k: np.array(v, dtype=np.int64) for k, v in others.items()}))


def test_everything_wrong_is_reported_together(make_dataset):
    dataset = make_dataset([5, 0, 5], test=[3], validation=np.zeros(0, dtype=np.int64))
    with pytest.raises(InputError) as error:
        check_dataset(dataset)
    for text in ("dataset rows cannot be used: ", r"(c1)", "is 3 in row 0", "validation has no rows"):
        assert text in str(error.value)


def test_no_train_partition_is_refused():
    with pytest.raises(InputError, match=r"has no partition train, only \[\]"):
        check_dataset(Dataset("none", ("a", "b"), {}))
