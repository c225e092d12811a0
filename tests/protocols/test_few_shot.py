from __future__ import annotations

import numpy as np
import pytest

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.targets.mask import Mask
from probe.datasets.shared.mask_rows import ArrayMasks, MaskPartition
from probe.datasets.shared.partitions import ArrayPartition
from probe.datasets.shared.partitions import make_dataset as datasets_of
from probe.protocols.few_shot import FewShot
from probe.protocols.shared.strata import with_strata


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


def of_masks(labels):
    """Training images with (N, K) pixels of each class, as protocols see them."""
    labels = np.asarray(labels)
    codes = np.stack([np.repeat(np.arange(labels.shape[1]), row).reshape(2, -1) for row in labels]).astype(np.uint8)
    rows = ArrayPartition(np.repeat(codes[..., None], 3, axis=-1), labels, [str(i) for i in range(len(labels))],
                          target=Mask())  # fmt: skip
    part = MaskPartition(rows, ArrayMasks(codes), ArrayMasks(codes).fingerprint)
    names = [f"c{k}" for k in range(labels.shape[1])]
    return with_strata(datasets_of("scenes", names, {"train": part, "test": part}, target=Mask(), rows="images"))


def scenes(n=60):
    """Class 0 in every image, 1 in half of them, 2 in each sixth, 3 where 2 is and nowhere else."""
    return np.array([[8, 0, 0, 0] if i % 2 else [4, 4, 0, 0] if i % 3 else [2, 2, 2, 2] for i in range(n)])


@pytest.mark.parametrize("k", [1, 3, 8])
def test_of_masks_k_images_show_each_class_and_one_counts_for_all_its_classes(k):
    labels = scenes()
    rows = drawn(of_masks(labels), k)
    counts = (labels[rows] > 0).sum(axis=0)
    assert (counts >= k).all()
    assert counts[2] == k  # no more than were asked for of the class that others do not bring along
    assert len(rows) <= 3 * k


def test_draws_of_masks_are_nested_in_k_and_follow_the_seed():
    dataset = of_masks(scenes())
    for few, many in ((1, 2), (2, 5), (5, 9)):
        assert set(drawn(dataset, few)) < set(drawn(dataset, many))
    assert drawn(dataset, 2, seed=0).tolist() != drawn(dataset, 2, seed=1).tolist()


def test_of_masks_the_classes_of_pixels_limit_k():
    text = "k is 11, but class c2 of dataset scenes has only 10 training rows: set protocol.k to 10 or less"
    with pytest.raises(InputError, match=text):
        FewShot(11).split(of_masks(scenes()), 0)
    assert len(drawn(of_masks(scenes()), 10))
