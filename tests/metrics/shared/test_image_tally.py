import numpy as np
import pytest

from probe.core.errors import InputError
from probe.metrics.shared.scores.mask import ImageTally, boundary

K = 5


def pair(seed=0, shape=(17, 23)):
    random = np.random.default_rng(seed)
    mask = random.integers(0, K, shape).astype(np.uint8)
    mask[random.random(shape) < 0.1] = 255
    return random.integers(0, K, shape), mask


def dense(tally):
    found = np.zeros((K, K), dtype=np.int64)
    found[tally.true, tally.predicted] = tally.count
    return found


def test_the_confusion_is_that_of_scikit_learn():
    from sklearn.metrics import confusion_matrix

    predicted, mask = pair()
    labelled = mask != 255
    expected = confusion_matrix(mask[labelled], predicted[labelled], labels=range(K))
    np.testing.assert_array_equal(dense(ImageTally.of(predicted, mask, K)), expected)


def test_a_confusion_sums_to_the_labelled_pixels_of_each_class():
    predicted, mask = pair()
    np.testing.assert_array_equal(
        dense(ImageTally.of(predicted, mask, K)).sum(axis=1), [(mask == k).sum() for k in range(K)]
    )


def test_predictions_at_ignored_pixels_change_nothing():
    predicted, mask = pair()
    changed = np.where(mask == 255, 3, predicted)
    one, two = ImageTally.of(predicted, mask, K), ImageTally.of(changed, mask, K)
    np.testing.assert_array_equal(dense(one), dense(two))
    assert one.boundary == two.boundary


def test_masks_of_more_classes_have_two_bytes_for_the_ignored_pixel():
    mask = np.array([[0, 255, 299, 65535]], dtype=np.uint16)
    tally = ImageTally.of(np.array([[0, 255, 1, 7]]), mask, 300)
    assert (tally.true.tolist(), tally.predicted.tolist()) == ([0, 255, 299], [0, 255, 1])


def test_the_boundary_is_a_pixel_wide_on_either_side_and_grows_with_the_image():
    mask = np.zeros((10, 12), dtype=np.uint8)
    mask[:, 6:] = 1
    np.testing.assert_array_equal(np.flatnonzero(boundary(mask, 2)[0]), [5, 6])
    large = np.kron(mask, np.ones((30, 30), dtype=np.uint8))  # a diagonal of 468.6: 5 px
    np.testing.assert_array_equal(np.flatnonzero(boundary(large, 2)[0]), np.arange(175, 185))


def test_beside_ignored_pixels_is_no_boundary():
    mask = np.zeros((6, 9), dtype=np.uint8)
    mask[:, 4:] = 255
    assert not boundary(mask, 2).any()
    mask[:, 5:] = 1
    np.testing.assert_array_equal(np.flatnonzero(boundary(mask, 2)[0]), [])
    mask[:, 4] = 1
    assert not boundary(mask, 2)[0, [2, 5]].any()
    assert boundary(mask, 2)[0, [3, 4]].all()


def test_boundary_pixels_are_counted_right_or_wrong():
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[:, 3:] = 1
    assert ImageTally.of(np.zeros((4, 6), dtype=int), mask, 2).boundary == (4, 8)


@pytest.mark.parametrize(
    ("predicted", "text"),
    [
        (np.zeros((3, 4), dtype=int), r"a prediction has shape \(3, 4\) and its mask \(4, 4\), expected"),
        (np.full((4, 4), 7), "predicted classes run from 7 to 7, expected 0 to 1"),
    ],
)
def test_what_is_no_prediction_of_the_mask_is_refused(predicted, text):
    with pytest.raises(InputError, match=text):
        ImageTally.of(predicted, np.zeros((4, 4), dtype=np.uint8), 2)
