import numpy as np
import pytest

from probe.core.errors import InputError
from probe.datasets.shared.partitions import (
    ArrayPartition,
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
        ({"train": (0, -1)}, "train has 1 labels out of range, the first is -1 in row 1"),
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


def test_a_missing_test_partition_is_refused():
    with pytest.raises(InputError, match="no test partition, only train"):
        make_dataset("x", ["a", "b"], {"train": part((0, 1))})


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
