from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.core.base import Rows, Split
from probe.core.errors import InputError
from probe.datasets.shared.labels import IGNORED
from probe.datasets.shared.partitions import (
    LEFT_OUT,
    ArrayPartition,
    ImageFiles,
    content_cut,
    count_duplicates,
    make_dataset,
)


def part(labels, n_features=2):
    return ArrayPartition(np.zeros((len(labels), n_features), np.float32), labels, [str(i) for i in range(len(labels))])


def make(train=(0, 1), test=(0, 1), class_names=("a", "b"), **more):
    return make_dataset("x", class_names, {"train": part(train), "test": part(test), **more})


def test_a_sound_dataset_passes():
    assert make().class_names == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"train": (0, 0), "test": (0,), "class_names": ("a",)}, r"1 class \(a\).*at least 2 classes"),
        ({"train": (0, 0)}, r"train \(2 rows\) has no row of 1 of 2 classes \(b\)"),
        ({"train": (0,), "class_names": ("a", "b", "c")}, r"train \(1 rows\) has no row of 2 of 3 classes \(b, c\)"),
        ({"test": (0, 2, 7)}, r"test has 2 labels out of range, the first is 2 in row 1 \(1\).*labels from 0 to 1"),
        ({"train": (0, -1)}, "train has 1 label out of range, the first is -1 in row 1"),
        ({"test": ()}, "test has no rows"),
        ({"class_names": ("a", "a")}, "class name 'a' stands for more than one class"),
    ],
)
def test_faulty_datasets_are_refused(arguments, text):
    with pytest.raises(InputError, match=text):
        make(**arguments)


def test_several_faults_are_reported_together():
    with pytest.raises(InputError, match=r"train.*no row of.*test has no rows"):
        make(train=(0, 0), test=())


def test_train_alone_is_a_dataset_and_test_alone_is_none():
    assert list(make_dataset("x", ["a", "b"], {"train": part((0, 1))}).partitions) == ["train"]
    with pytest.raises(InputError, match=r"no partition train, only \['test'\]"):
        make_dataset("x", ["a", "b"], {"test": part((0, 1))})


def test_fingerprint_sees_one_value_one_label_one_id_and_the_order():
    rows, labels, ids = np.arange(6.0).reshape(3, 2), [0, 1, 0], ["a", "b", "c"]
    touched = rows.copy()
    touched[2, 1] = np.nextafter(5.0, 6.0)
    order = [1, 0, 2]
    parts = [
        ArrayPartition(rows, labels, ids),
        ArrayPartition(touched, labels, ids),
        ArrayPartition(rows, [0, 1, 1], ids),
        ArrayPartition(rows, labels, ["a", "b", "d"]),
        ArrayPartition(rows[order], np.array(labels)[order], [ids[i] for i in order]),
    ]
    assert len({p.fingerprint for p in parts}) == len(parts)
    assert ArrayPartition(rows.copy(), labels, ids).fingerprint == parts[0].fingerprint


def test_the_order_of_the_rows_does_not_move_the_cut():
    rng = np.random.default_rng(0)
    digests = np.array([f"{value:08x}" for value in rng.integers(0, 2**32, 90)])
    labels = np.arange(90) % 3
    plain = content_cut(digests, labels, 0.3)
    order = rng.permutation(90)
    np.testing.assert_array_equal(content_cut(digests[order], labels[order], 0.3), plain[order])
    np.testing.assert_array_equal(np.bincount(labels[plain]), [9, 9, 9])


def test_equal_rows_stay_on_one_side_of_the_cut():
    assert content_cut(["b", "a", "b", "c"], np.zeros(4, np.int64), 0.5).tolist() == [True, True, True, False]


def test_exact_duplicates_across_partitions_are_counted():
    rows = np.arange(8.0).reshape(4, 2)
    test = np.concatenate([rows[2:], rows[2:3], rows[:1] + 1e-9])
    parts = {"train": ArrayPartition(rows, [0, 1, 0, 1], list("abcd"))}
    parts |= {"test": ArrayPartition(test, [0, 1, 0, 1], list("abcd"))}
    assert count_duplicates(make_dataset("x", ["a", "b"], parts)) == {"test": 3}


def test_labels_and_ids_stand_for_every_row():
    rows = np.zeros((3, 2))
    with pytest.raises(InputError, match="3 rows, 2 labels, 3 ids, expected as many of each"):
        ArrayPartition(rows, [0, 1], list("abc"))
    with pytest.raises(InputError, match="2 files, 1 labels, expected as many"):
        ImageFiles(Path(), ["a", "b"], [0])
    with pytest.raises(InputError, match=r"3 labels not whole within 64 bits, the first is 0\.7"):
        ArrayPartition(rows, [0.7, 1.9, 2.2], list("abc"))


@pytest.mark.parametrize("shape", [(1, 20, 2), (1, 4, 4, 3)])
def test_rows_of_several_axes_are_images_only_as_bytes_or_where_it_is_said(shape):
    plain, picture = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    assert isinstance(ArrayPartition(plain, [0], ["a"])[0], np.ndarray)
    assert ArrayPartition(plain, [0], ["a"])[0].shape == shape[1:]
    assert isinstance(ArrayPartition(picture, [0], ["a"])[0], Image.Image)
    assert isinstance(ArrayPartition(picture, [0], ["a"], images=False)[0], np.ndarray)
    grey = ArrayPartition(np.zeros((1, 20, 2), np.uint16), [0], ["a"], images=True)[0]
    assert (grey.mode, grey.size) == ("I;16", (2, 20))


def test_rows_that_were_skipped_leak_nothing():
    rows = np.arange(8.0).reshape(4, 2)
    parts = {part: ArrayPartition(rows, [0, 1, 0, 1], list("abcd")) for part in ("train", "test")}
    data = make_dataset("x", ["a", "b"], parts)
    assert count_duplicates(data) == {"test": 4}
    skipped = np.array([False, True, True, True])
    assert count_duplicates(data, valid={"train": skipped}) == {"test": 3}
    assert count_duplicates(data, valid={"test": skipped}) == {"test": 3}


def test_test_rows_drawn_from_train_are_held_against_the_other_rows_of_train():
    rows = np.array([[0.0], [1.0], [2.0], [1.0], [2.0], [5.0]])
    data = make_dataset("x", ["a", "b"], {"train": ArrayPartition(rows, [0, 1] * 3, list("abcdef"))})
    chosen = [Rows("train", np.array(numbers)) for numbers in ([0, 1], [2], [3, 4, 5])]
    assert count_duplicates(data, split=Split(*chosen)) == {"test": 2}
    valid = np.array([True, True, False, True, True, True])
    assert count_duplicates(data, split=Split(*chosen), valid={"train": valid}) == {"test": 1}


def test_rows_with_the_label_to_ignore_are_counted_in_the_notes():
    data = make(train=(0, 1, IGNORED), test=(0, 1))
    assert data.notes[LEFT_OUT] == ["1 row of train with the label to ignore"]
    assert make().notes == {}
