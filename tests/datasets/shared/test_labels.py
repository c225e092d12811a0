import numpy as np
import pytest

from probe.core.errors import InputError
from probe.datasets.shared.labels import encode_labels, read_class_names
from probe.datasets.shared.partitions import ArrayPartition, make_dataset


def test_labels_may_be_numbers_or_names():
    codes, names = encode_labels({"train": ["b", "a"], "test": ["a", "a"]}, "x")
    assert (codes["train"].tolist(), codes["test"].tolist(), names) == ([1, 0], [0, 0], ["a", "b"])
    with pytest.raises(InputError, match=r"2 rows of test have labels in x that are none .* \(c\)"):
        encode_labels({"train": ["b", "a"], "test": ["c", "a", "c"]}, "x")
    assert encode_labels({"train": ["b", "a"], "test": ["c", "a"]}, "x", None, "c")[1] == ["a", "b"]
    codes, names = encode_labels({"train": [0.0, 2.0, 1.0]}, "x")
    assert (codes["train"].tolist(), names) == ([0, 2, 1], ["0", "1", "2"])
    assert encode_labels({"train": ["b", "a"]}, "x", ["b", "a"])[0]["train"].tolist() == [0, 1]


@pytest.mark.parametrize("label", [None, 0.5, float("nan"), b"a"])
def test_odd_labels_are_refused(label):
    with pytest.raises(InputError, match=r"row 1 of train has the label .* in y, expected a class number or a name"):
        encode_labels({"train": [0, label]}, "y")


@pytest.mark.parametrize(
    ("labels", "names", "ignore", "codes", "left"),
    [
        ([0, 255, 1, 255], None, 255, [0, 1], ["0", "1"]),
        ([0, -1, 1, 2], ["a", "b", "c"], -1, [0, 1, 2], ["a", "b", "c"]),
        ([0, 1, 2, 1], ["a", "void", "c"], "void", [0, 1], ["a", "c"]),  # what stands behind it moves up
        ([0, 1, 2, 1], None, 1, [0, 1], ["0", "2"]),
        (["b", "void", "a"], None, "void", [1, 0], ["a", "b"]),
        (["1", "-1", "0", "x"], None, -1, [1, 0, 2], ["0", "1", "x"]),
    ],
)
def test_rows_with_the_ignored_label_are_left_out(labels, names, ignore, codes, left):
    raw = {"train": labels, "test": labels[:1]}
    found, class_names = encode_labels(raw, "x", names, ignore)
    rows = {p: ArrayPartition(np.arange(len(c))[:, None], c, [str(i) for i in range(len(c))]) for p, c in found.items()}
    data = make_dataset("x", class_names, rows)
    assert data.class_names == tuple(left)
    train = data.partitions["train"]
    assert train.labels.tolist() == codes
    assert [int(train[i][0]) for i in range(len(train))] == [i for i, value in enumerate(labels) if value != labels[1]]
    assert data.partitions["test"] is rows["test"]


def test_a_label_to_ignore_that_no_row_has_is_refused():
    with pytest.raises(InputError, match=r"column y has no label 'vod', expected one that some row has.*ignore_label"):
        encode_labels({"train": ["a", "void"]}, "column y", None, "vod")


def test_the_word_none_is_a_label_like_any_other():
    assert encode_labels({"train": ["None", "a"]}, "x")[1] == ["None", "a"]


def test_class_names_come_from_a_list_or_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("cät\n\ndog \n", encoding="utf-8")
    assert read_class_names(str(tmp_path / "names.txt")) == read_class_names(["cät", "dog"]) == ["cät", "dog"]
    assert read_class_names(None) is None
    with pytest.raises(InputError, match=r"class_names nowhere\.txt is no file"):
        read_class_names("nowhere.txt")
