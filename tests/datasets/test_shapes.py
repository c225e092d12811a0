import numpy as np
import pytest

from probe.core.errors import InputError
from probe.datasets.shapes import CLASSES, load


def contract_case(root):
    return {"n_train": 100, "n_test": 10}


@pytest.fixture(scope="module")
def shapes():
    return load(n_train=400, n_test=60)


def test_pixels_are_shared_out_as_in_the_card(shapes):
    labels = shapes.partitions["train"].labels
    np.testing.assert_allclose(
        labels.sum(axis=0) / labels.sum(), [0.811, 0.068, 0.070, 0.031, 0.019, 0.0011], rtol=0.25
    )


def test_masks_are_exact(shapes):
    """Objects are of one colour: within a mask's class nothing but noise, or another object's colour, remains."""
    part = shapes.partitions["train"]
    for row in range(40):
        present = np.unique(part.masks[row])
        if len(present) == 2:
            pixels = np.asarray(part[row], dtype=float)[part.masks[row] == present[1]]
            assert np.median(np.abs(pixels - np.median(pixels, axis=0))) < 25


def test_more_scenes_leave_the_others_as_they_are_and_the_seed_decides(shapes):
    few = load(n_train=100, n_test=5)
    np.testing.assert_array_equal(few.partitions["train"].masks[99], shapes.partitions["train"].masks[99])
    assert few.partitions["test"][4] == shapes.partitions["test"][4]
    assert load(100, 5).fingerprint == few.fingerprint != load(100, 5, seed=1).fingerprint


def test_scenes_grow_with_their_size():
    small, large = (load(60, 1, size=size).partitions["train"] for size in (32, 96))
    assert large[0].size == large.masks[0].shape == (96, 96)
    shares = [part.labels.sum(axis=0) / part.labels.sum() for part in (small, large)]
    np.testing.assert_allclose(*shares, atol=0.01)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": 8}, "size is 8, expected 16 pixels or more: set dataset.size=32"),
        ({"n_test": 0}, "n_train is 1500 and n_test 0, expected a scene or more of both"),
        ({"n_train": 3, "n_test": 1}, r"train \(3 images\) has no pixel of . of 6 classes"),
    ],
)
def test_impossible_options_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        load(**options)


def test_classes_are_named(shapes):
    assert shapes.class_names == CLASSES
    assert shapes.target.name == "mask"
