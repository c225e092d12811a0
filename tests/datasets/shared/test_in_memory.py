"""Datasets of arrays and of torch datasets that a program holds."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_wine
from torch.utils.data import TensorDataset

from probe.core.errors import InputError
from probe.core.targets.labels import Labels
from probe.datasets.shared.in_memory import dataset_of


def test_copies_of_arrays_are_one_dataset_and_other_arrays_another():
    X, y = load_wine(return_X_y=True)
    made = [dataset_of({"train": given}) for given in ((X, y), (X.copy(), y.tolist()), (X + 1, y))]
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].name == made[1].name
    assert made[0].name != made[2].name
    assert made[0].name.startswith("arrays-")


def test_labels_may_be_names_or_columns_and_are_encoded_as_those_of_files():
    X = np.arange(12).reshape(6, 2)
    named = dataset_of({"train": (X, ["b", "a", "b", "a", "b", "a"])}, name="mine")
    assert (named.name, named.class_names, named.rows) == ("mine", ("a", "b"), "vectors")
    assert named.partitions["train"].labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert named.partitions["train"][0].dtype == np.float32
    several = dataset_of({"train": (X, np.eye(2, dtype=int)[[0, 1, 0, 1, 0, 1]])})
    assert several.target == Labels() or several.target.name == "labels"


def test_a_torch_dataset_of_images_is_read_row_by_row_and_named_by_its_content():
    class Images:
        classes = ("dark", "light")

        def __init__(self, level):
            self.level = level

        def __len__(self):
            return 6

        def __getitem__(self, row):
            return Image.new("RGB", (4, 4), (self.level * row,) * 3), torch.tensor(row % 2)

    made = [dataset_of({"train": Images(level)}) for level in (10, 10, 11)]
    assert made[0].class_names == ("dark", "light")
    assert made[0].rows == "images"
    assert made[0].partitions["train"][3].getpixel((0, 0)) == (30, 30, 30)
    assert made[0].fingerprint == made[1].fingerprint != made[2].fingerprint
    assert len(set(made[0].partitions["train"].row_digests())) == 6


def test_columns_of_labels_of_a_torch_dataset_are_several_labels_per_row():
    made = dataset_of({"train": TensorDataset(torch.randn(8, 3), torch.eye(2, dtype=torch.int64).repeat(4, 1))})
    assert made.target.name == "labels"


def test_rows_that_change_when_they_are_read_again_are_refused():
    class Random(TensorDataset):
        def __getitem__(self, row):
            x, y = super().__getitem__(row)
            return x + torch.rand(3), y

    with pytest.raises(InputError, match="is another one each time it is read, expected rows that stay"):
        dataset_of({"train": Random(torch.zeros(4, 3), torch.arange(4) % 2)})


def test_a_data_frame_is_its_numbers_and_its_columns_are_no_rows():
    X = np.random.default_rng(0).normal(size=(6, 3))
    frame, y = pd.DataFrame(X, columns=["a", "b", "c"]), [0, 1, 0, 1, 0, 1]
    plain = dataset_of({"train": (X, y)})
    for given in (frame, frame.convert_dtypes()):
        assert dataset_of({"train": (given, pd.Series(y, dtype="Int64"))}).fingerprint == plain.fingerprint
    with pytest.raises(InputError, match=r"columns 'place', 'said' hold no numbers: .*encode them, or give X\['pl"):
        dataset_of({"train": (frame.assign(place="x", said="y"), y)})


def test_a_y_of_pandas_names_its_columns_or_its_ordered_categories():
    X, words = np.random.default_rng(0).normal(size=(6, 3)), ["low", "high", "none"] * 2
    grades = pd.Series(pd.Categorical(words, ["none", "low", "high"], ordered=True))
    data = dataset_of({"train": (X, grades)}, ordered=True)
    assert data.class_names == ("none", "low", "high")
    assert data.partitions["train"].labels.tolist() == [1, 2, 0, 1, 2, 0]
    assert dataset_of({"train": (X, pd.Series(words, dtype="category"))}).class_names == ("high", "low", "none")
    columns = pd.DataFrame({"left": [0, 1, 0, 1, 0, 1], "up": [1, 1, 0, 0, 1, 0]})
    assert dataset_of({"train": (X, columns)}).class_names == ("left", "up")
    assert dataset_of({"train": (X, columns)}, target="number").class_names == ("left", "up")


def test_groups_sessions_and_hardness_may_stand_beside_arrays():
    X, y = np.random.default_rng(0).normal(size=(6, 3)), [0, 1, 0, 1, 0, 1]
    pairs = {"train": (X, y), "test": (X, y)}
    data = dataset_of(pairs, groups=list("aabbcc"), sessions={"test": y}, ignore_label=None)
    assert data.partitions["train"].groups.tolist() == list("aabbcc")
    assert not hasattr(data.partitions["test"], "groups")
    assert data.partitions["test"].sessions.tolist() == y
    left = dataset_of({"train": (X, [0, 1, 2, 1, 0, 1])}, groups=list("aabbcc"), ignore_label=2).partitions["train"]
    assert left.groups.tolist() == list("aabcc")
    with pytest.raises(InputError, match="groups are given of dev, the dataset has train, test: rename them"):
        dataset_of(pairs, groups={"dev": y})
    with pytest.raises(InputError, match=r"groups of train have shape \(2,\), expected one value for each of its 6"):
        dataset_of(pairs, groups=[1, 2])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"test": (np.zeros((4, 2)), [0] * 4)}, "expected train among them"),
        ({"train": (np.zeros((4, 2)), [0] * 4, 1)}, "train is a tuple of 3, expected a pair"),
        ({"train": [1, 2, 3, 4]}, r"row 0 of train is no \(row, label\) pair"),
        ({"train": "iris"}, "train is a str, expected a pair"),
    ],
)
def test_what_is_no_dataset_is_refused_in_a_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence):
        dataset_of(given)


def test_floats_of_steps_and_channels_are_series_of_any_length():
    X, y = np.arange(24.0).reshape(4, 3, 2), [0, 1, 0, 1]
    data = dataset_of({"train": (X, y), "test": ([X[0, :2], X[1]], [0, 1])})
    assert data.rows == "series"
    assert data.partitions["test"].lengths.tolist() == [2, 3]
    np.testing.assert_array_equal(data.partitions["train"][1], X[1])
    X[2, 1, 0] = np.nan
    with pytest.raises(InputError, match=r"row 2 of train of X has no value in step 1 of channel 0, .* dataset.gaps="):
        dataset_of({"train": (X, y)})
    assert dataset_of({"train": (X, y)}, gaps="interpolate").partitions["train"][2][1, 0] == 14
