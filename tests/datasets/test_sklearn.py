import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from probe.core.errors import InputError
from probe.core.targets.number import Number
from probe.datasets.sklearn import NAMES, NUMBERS, load


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_in_exactly_one_part(name):
    data = load(name)
    rows = [int(i) for part in data.partitions.values() for i in part.ids]
    labels = np.concatenate([part.labels for part in data.partitions.values()])
    bunch = getattr(sklearn.datasets, f"load_{name}")()
    assert sorted(rows) == list(range(len(bunch.target)))
    np.testing.assert_array_equal(labels, bunch.target[rows])
    assert data.class_names == tuple(str(c) for c in bunch.target_names)


@pytest.mark.parametrize("name", NAMES)
def test_the_cut_is_stratified(name):
    data = load(name, test_fraction=0.3)
    train, test = (np.bincount(data.partitions[part].labels) for part in ("train", "test"))
    # Equal rows stay together, which may move the cut by a row.
    np.testing.assert_allclose(test, 0.3 * (train + test), atol=2)


@pytest.mark.parametrize("name", NAMES)
def test_no_row_is_in_both_parts(name):
    data = load(name)
    train, test = (
        {p.rows[i].tobytes() for i in range(len(p))} for p in (data.partitions["train"], data.partitions["test"])
    )
    assert not train & test


def test_digits_are_greyscale_images_of_the_whole_range():
    data = load("digits")
    part = data.partitions["train"]
    image = part[0]
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("L", (8, 8))
    expected = sklearn.datasets.load_digits().images[int(part.ids[0])] * 255 / 16
    np.testing.assert_allclose(np.asarray(image), expected, atol=0.5)


def test_without_a_test_fraction_every_row_is_for_training():
    data = load("digits", test_fraction=0, as_rows=True)
    assert list(data.partitions) == ["train"]
    np.testing.assert_array_equal(data.partitions["train"].rows, sklearn.datasets.load_digits().data)


def test_others_are_rows_of_numbers():
    row = load("iris").partitions["test"][0]
    assert row.shape == (4,)


def test_unknown_names_list_what_there_is():
    with pytest.raises(InputError, match="'mnist' is unknown, expected one of breast_cancer, digits, iris, wine, diab"):
        load("mnist")


def test_impossible_fraction_is_refused():
    with pytest.raises(InputError, match=r"test_fraction is 1\.0, expected a share between 0 and 1"):
        load("iris", test_fraction=1.0)


@pytest.mark.parametrize("name", NUMBERS)
def test_sets_of_numbers_are_cut_over_their_whole_range(name):
    data, bunch = load(name), getattr(sklearn.datasets, f"load_{name}")()
    assert data.target == Number()
    assert [c.lower() for c in data.class_names] == [c.lower() for c in bunch.get("target_names", ["progression"])]
    for part in data.partitions.values():
        np.testing.assert_array_equal(part.labels, bunch.target[[int(i) for i in part.ids]])
    if name == "diabetes":
        train, test = (np.sort(data.partitions[part].labels) for part in ("train", "test"))
        assert len(train) + len(test) == 442
        np.testing.assert_allclose(np.quantile(test, [0.1, 0.5, 0.9]), np.quantile(train, [0.1, 0.5, 0.9]), rtol=0.1)
