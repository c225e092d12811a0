import numpy as np
import pytest

from probe.core.errors import InputError
from probe.core.targets import named, recorded
from probe.core.targets.number_map import HasNumberMaps, NumberMap, labels_of
from probe.datasets.shared.mask_rows import ArrayMaps, NumberMapPartition
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.subsets import limited


def partition(numbers, target=None):
    maps, ids = ArrayMaps(numbers), [str(row) for row in range(len(numbers))]
    images = np.zeros((*numbers.shape, 3), np.uint8) + np.arange(len(numbers), dtype=np.uint8)[:, None, None, None]
    rows = ArrayPartition(images, maps.labels(), ids, target=target or NumberMap())
    return NumberMapPartition(rows, maps, maps.fingerprint)


def drawn(n, seed=0):
    numbers = np.random.default_rng(seed).uniform(1, 5, size=(n, 4, 6)).astype(np.float32)
    numbers[:, 0, 0] = np.nan
    return numbers


def test_it_is_found_by_its_name():
    assert named("number_map") == NumberMap() == recorded({"target": "number_map"})
    assert isinstance(partition(drawn(3)), HasNumberMaps)


def test_labels_are_mean_and_count_of_the_labelled_pixels():
    numbers = drawn(1)[0]
    assert labels_of(numbers) == (pytest.approx(np.nanmean(numbers)), 23)
    assert labels_of(np.full((2, 2), np.nan)) == (0.0, 0)


def test_images_without_a_labelled_pixel_are_left_out_and_counted():
    numbers = drawn(6)
    numbers[4] = np.nan
    data = make_dataset("x", ["depth"], {"train": partition(numbers)}, target=NumberMap(), rows="images")
    assert data.notes["left_out"] == ["1 row of train without a labelled pixel"]
    np.testing.assert_array_equal(data.partitions["train"].number_maps[4], numbers[5])


def test_draws_stratify_by_the_mean():
    means = np.stack([np.arange(200.0), np.ones(200)], axis=1)
    strata = NumberMap().strata(means)
    assert np.bincount(strata).tolist() == [20] * 10
    assert (np.diff(strata) >= 0).all()


def test_a_fingerprint_knows_where_the_numbers_are():
    numbers = drawn(6)
    moved = numbers.copy()
    moved[1] = moved[1][::-1]
    assert partition(numbers).fingerprint == partition(numbers.copy()).fingerprint != partition(moved).fingerprint


def test_some_images_keep_their_maps():
    numbers = drawn(60)
    cut = limited(make_dataset("x", ["depth"], {"train": partition(numbers)}, target=NumberMap(), rows="images"), 6)
    kept = cut.partitions["train"]
    assert len(kept) == 6
    for row in range(6):
        np.testing.assert_array_equal(kept.number_maps[row], numbers[int(kept.ids[row])])


def test_a_reader_sees_name_unit_and_mean():
    target, labels = NumberMap("m", 0.1, 10.0), np.array([[2.0, 100], [4.0, 1200]])
    assert target.shown(labels[1], ["depth"]) == "depth 4 m over 1,200 pixels"
    assert target.described(labels, ["depth"]) == (
        "a number per pixel: depth (m)", "image means", "2 to 4, median 3"
    )  # fmt: skip
    assert target.facts == {"units": ["m"], "range": [0.1, 10.0]}
    np.testing.assert_array_equal(target.clipped(np.array([-1.0, 3.0, 99.0])), [0.1, 3.0, 10.0])


@pytest.mark.parametrize(
    ("names", "change", "told"),
    [
        (["a", "b"], None, "its numbers are named a, b.*expected a name"),
        (["a"], np.nan, "train has no image with a labelled pixel.*dataset.scale"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(names, change, told):
    numbers = drawn(3) if change is None else np.full_like(drawn(3), change)
    with pytest.raises(InputError, match=told):
        make_dataset("x", names, {"train": partition(numbers)}, target=NumberMap(), rows="images")


def test_a_record_holds_mean_and_count():
    assert not NumberMap().fits_record(np.ones((3, 2)), 1)
    assert NumberMap().fits_record(np.ones(3), 1) == "are not mean and labelled pixels of each image"
