import numpy as np
import pytest

from probe.core.errors import InputError
from probe.datasets.shared.labels import encode_labels, numbers_or_names, read_class_names
from probe.datasets.shared.partitions import ArrayPartition, make_dataset


def test_labels_may_be_numbers_or_names():
    codes, names = encode_labels({"train": ["b", "a"], "test": ["a", "a"]}, "x")
    assert (codes["train"].tolist(), codes["test"].tolist(), names) == ([1, 0], [0, 0], ["a", "b"])
    with pytest.raises(InputError, match=r"test has 2 rows with labels in x that are none .* \(c\)"):
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


@pytest.mark.parametrize(
    ("train", "test", "names"),
    [
        ([1, 2, 3, 1], [3, 1], ["1", "2", "3"]),
        ([10**9, 0, 10**9, 7], [7, 0], ["0", "7", str(10**9)]),
        ([-1, 1, 1, -1], [1, -1], ["-1", "1"]),
    ],
)
def test_labels_from_1_on_or_with_gaps_are_mapped_on_request(train, test, names):
    raw = {"train": train, "test": test}
    with pytest.raises(InputError, match=r"train has \d labels? out of range, .*in y.*set dataset\.map_labels=true"):
        encode_labels(raw, "y")
    codes, found = encode_labels(raw, "y", map_labels=True)
    assert found == names
    assert [names[c] for c in codes["train"]] == [str(v) for v in train]
    assert [names[c] for c in codes["test"]] == [str(v) for v in test]
    named = [f"class {name}" for name in names]
    assert encode_labels(raw, "y", named, map_labels=True)[1] == named
    with pytest.raises(InputError, match=rf"class_names has 1 names and train {len(names)} labels in y"):
        encode_labels(raw, "y", ["a"], map_labels=True)


def test_the_label_to_ignore_is_none_of_those_that_are_mapped():
    codes, names = encode_labels({"train": [1, 2, 255], "test": [255, 2]}, "y", None, 255, map_labels=True)
    assert names == ["1", "2"]
    assert codes["train"][:2].tolist() == [0, 1]
    assert codes["test"].tolist() == [codes["train"][2], 1]


def test_labels_that_train_lacks_are_refused_whether_mapped_or_not():
    with pytest.raises(InputError, match="test has 1 label out of range, the first is 2 in row 1"):
        encode_labels({"train": [0, 1], "test": [0, 2]}, "y")
    with pytest.raises(InputError, match="test has 1 row with labels in y that no row of train has, the first is 2 in"):
        encode_labels({"train": [0, 1], "test": [0, 2]}, "y", map_labels=True)


@pytest.mark.parametrize("label", [2**63, 10**20, -(2**63) - 1, 1e300])
def test_numbers_beyond_64_bits_are_refused(label):
    with pytest.raises(InputError, match=r"row 1 of train has the label .*, expected a number of 64 bits"):
        encode_labels({"train": [0, label]}, "y")


def test_names_and_numbers_among_each_other_are_refused():
    with pytest.raises(InputError, match=r"some labels in y are names \('cat'\) and some are numbers \(0\)"):
        encode_labels({"train": [0, 1], "test": ["cat", "dog"]}, "y")
    with pytest.raises(InputError, match=r"some labels in y are names"):
        encode_labels({"train": [[0], ["cat"]]}, "y")


def test_one_name_in_two_spellings_is_one_class_called_as_in_train():
    apart, composed = "Lo\u0308we", "Löwe"
    codes, names = encode_labels({"train": [apart, "Hund"], "test": [composed, "Hund"]}, "y")
    assert names == ["Hund", apart]
    assert codes["test"].tolist() == [1, 0]
    assert encode_labels({"train": [apart, composed, "x"]}, "y")[0]["train"].tolist() == [0, 0, 1]
    assert encode_labels({"train": [apart]}, "y", [composed])[0]["train"].tolist() == [0]
    assert encode_labels({"train": [apart, "x"]}, "y", None, composed)[1] == ["x"]
    targets, _ = encode_labels({"train": [[apart], ["x"]], "test": [[composed]]}, "y")
    assert targets["test"].tolist() == [[1, 0]]


def test_lists_of_labels_follow_the_same_rules():
    with pytest.raises(InputError, match=r"the labels of train are 5, 1000000000, expected 0 to 1.*map_labels"):
        encode_labels({"train": [[5], [10**9, 5]]}, "y")
    targets, names = encode_labels({"train": [[5], [10**9, 5]], "test": [[10**9]]}, "y", map_labels=True)
    assert names == ["5", "1000000000"]
    assert targets["train"].tolist() == [[1, 0], [1, 1]]
    assert targets["test"].tolist() == [[0, 1]]
    with pytest.raises(InputError, match="row 0 of test has the label 2 in y, which is none of the 2 labels"):
        encode_labels({"train": [[5], [6]], "test": [[7]]}, "y", map_labels=True)
    with pytest.raises(InputError, match=r"row 1 of train has the list \[1, 0, 0\] in y, which names a label twice"):
        encode_labels({"train": [[0], [1, 0, 0]]}, "y")
    for odd in (None, 0.5):
        with pytest.raises(
            InputError, match=f"row 1 of train has the label {odd} in y, expected class numbers or names"
        ):
            encode_labels({"train": [[0], [odd]]}, "y")


@pytest.mark.parametrize(("texts", "kind"), [(["1", "-7"], int), (["1", "a"], str), (["9" * 19], str), (["٣"], str)])
def test_digits_that_64_bits_hold_are_numbers(texts, kind):
    assert numbers_or_names(texts) is kind


def test_files_of_names_may_have_a_mark_and_any_line_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffcat\r\ndog…\x85\r\n".encode())
    assert read_class_names(str(tmp_path / "a.txt")) == ["cat", "dog…"]
    (tmp_path / "a.txt").write_bytes("Löwe\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.txt is no text in UTF-8 .*or give dataset\.class_names as a list"):
        read_class_names(str(tmp_path / "a.txt"))
