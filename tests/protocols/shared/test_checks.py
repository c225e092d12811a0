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
        ([5], {"test": [0]}, "names 1 class, at least 2 are needed"),
        ([5, 0, 5], {}, "class c1 without any row in train"),
        ([9] + [0] * 7, {}, r"7 classes \(c1, c2, c3, c4, c5, …\) without any row in train"),
        ([2, 0, 0], {}, "train has 2 rows, fewer than its 3 classes"),
        ([5, 5], {"test": [0, 1, 7, 7]}, r"row 2 of test has label 7 \(2 such rows\), labels must lie in 0..1"),
        ([5, 5], {"validation": [-1]}, "row 0 of validation has label -1"),
        ([5, 5], {"test": []}, "partition test has no rows"),
    ],
)
def test_unusable_dataset_is_refused(make_dataset, counts, others, text):
    with pytest.raises(InputError, match=text):
        check_dataset(make_dataset(counts, **{k: np.array(v, dtype=np.int64) for k, v in others.items()}))


def test_everything_wrong_is_reported_together(make_dataset):
    dataset = make_dataset([5, 0, 5], test=[3], validation=np.zeros(0, dtype=np.int64))
    with pytest.raises(InputError) as error:
        check_dataset(dataset)
    for text in ("dataset rows cannot be used: ", "c1 without", "row 0 of test", "validation has no rows"):
        assert text in str(error.value)


def test_no_train_partition_is_refused():
    with pytest.raises(InputError, match=r"has no partition train, only \[\]"):
        check_dataset(Dataset("none", ("a", "b"), {}))
