import numpy as np
import pytest

from probe.core.base import Partition
from probe.core.errors import InputError
from probe.core.targets import named
from probe.core.targets.mask import HasMasks, Mask
from probe.datasets.shared.mask_rows import ArrayMasks, MaskPartition
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.subsets import limited, subset
from probe.protocols.holdout import Holdout
from probe.protocols.shared.strata import with_strata

NAMES = ("sky", "tree", "bird")


def partition(codes, n_classes=3):
    codes = np.asarray(codes, dtype=np.uint8)
    masks = ArrayMasks(codes)
    images = np.repeat(codes[..., None], 3, axis=-1)
    rows = ArrayPartition(images, masks.counts(n_classes), [str(i) for i in range(len(codes))], target=Mask())
    return MaskPartition(rows, masks, masks.fingerprint)


def drawn(n, seed=0):
    """Masks of which every third shows class 2 in one pixel, the others not at all."""
    codes = np.random.default_rng(seed).integers(0, 2, (n, 4, 5))
    codes[::3, 0, 0] = 2
    return codes


def test_labels_are_the_pixels_of_each_class_and_ignored_ones_are_none():
    part = partition([[[0, 1, 1], [2, 255, 255]], [[0, 0, 0], [0, 0, 255]]])
    assert part.labels.tolist() == [[1, 2, 1], [5, 0, 0]]
    assert isinstance(part, Partition)
    assert isinstance(part, HasMasks)
    assert named("mask") == Mask()


def test_an_image_is_of_the_stratum_of_the_class_that_the_fewest_images_show():
    labels = np.array([[90, 9, 1], [50, 50, 0], [99, 0, 1], [100, 0, 0], [10, 90, 0]])
    assert Mask().strata(labels).tolist() == [2, 1, 2, 0, 1]
    assert Mask().counts(labels, 3).tolist() == [5, 3, 2]


def test_protocols_draw_images_and_keep_the_share_of_the_rarest_class():
    data = make_dataset("x", NAMES, {"train": partition(drawn(60))}, target=Mask(), rows="images")
    split = Holdout(test_fraction=0.5).split(with_strata(data), 0)
    rare = data.partitions["train"].labels[:, 2] > 0
    assert rare[split.test.indices].sum() == 10


def test_some_of_the_images_keep_their_masks():
    codes = drawn(12)
    part = subset(partition(codes), np.array([7, 2]))
    assert len(part.masks) == len(part) == 2
    np.testing.assert_array_equal(part.masks[0], codes[7])
    np.testing.assert_array_equal(part.masks.rows(np.array([1]))[0], codes[2])
    np.testing.assert_array_equal(np.asarray(part[1])[..., 0], codes[2])
    assert part.fingerprint != subset(partition(codes), np.array([2, 7])).fingerprint
    cut = limited(make_dataset("x", NAMES, {"train": partition(drawn(60))}, target=Mask(), rows="images"), 6)
    np.testing.assert_array_equal(np.asarray(cut.partitions["train"][3])[..., 0], cut.partitions["train"].masks[3])


def test_a_fingerprint_knows_where_the_pixels_are():
    codes = drawn(6)
    moved = codes.copy()
    moved[1] = moved[1][::-1]
    one, two = partition(codes), partition(codes)
    two.pixels = ArrayMasks(moved.astype(np.uint8))
    two.pixels_digest = two.masks.fingerprint
    assert one.labels.tolist() == two.labels.tolist()
    assert one.fingerprint == partition(codes).fingerprint != two.fingerprint


def test_images_without_a_labelled_pixel_are_left_out_and_counted():
    codes = drawn(6)
    codes[4] = 255
    data = make_dataset("x", NAMES, {"train": partition(codes)}, target=Mask(), rows="images")
    assert data.partitions["train"].ids == ["0", "1", "2", "3", "5"]
    assert data.notes["left_out"] == ["1 row of train without a labelled pixel"]


@pytest.mark.parametrize(
    ("train", "names", "text"),
    [
        (drawn(6) % 2, NAMES, r"train \(6 images\) has no pixel of 1 of 3 classes \(bird\); expected at least 2"),
        (drawn(6), ("sky",), "train has labels of int64 and shape .6, 3., not pixels of 1 classes"),
        (drawn(6), ("sky", "tree", "sky"), "class name 'sky' stands for more than one class"),
    ],
)
def test_faulty_masks_are_refused(train, names, text):
    with pytest.raises(InputError, match=text):
        make_dataset("x", names, {"train": partition(train)}, target=Mask(), rows="images")


def test_masks_are_told_by_the_share_of_their_pixels():
    labels = np.array([[90, 9, 1], [100, 0, 0]])
    assert Mask().described(labels, NAMES) == (
        "masks of 3 classes", "train pixels", "sky 95.0 %, tree 4.5 %, bird 0.5 %"
    )  # fmt: skip
    assert Mask().shown(labels[0], NAMES) == "sky 90.0 %, tree 9 %, bird 1 %"
    assert Mask((255,)).facts == {"ignored_codes": [255]}
    assert Mask().fits_record(labels, 3) == ""
    assert Mask().fits_record(labels, 4) == "are no pixels of 4 classes per row"
