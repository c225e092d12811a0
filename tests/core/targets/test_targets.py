import re

import numpy as np
import pytest

from probe.core import targets
from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.targets.labels import Labels
from probe.core.targets.one_class import OneClass
from probe.datasets.shared.labels import encode_labels, target_of
from probe.datasets.shared.partitions import ArrayPartition, ImageFiles, make_dataset
from probe.datasets.shared.subsets import limited
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.fraction import Fraction
from probe.protocols.full import Full
from probe.protocols.rows import RandomRows
from probe.protocols.shared.checks import check_dataset
from probe.protocols.shared.strata import with_strata


def part(targets, start=0):
    n = len(targets)
    return ArrayPartition(np.arange(start, start + n)[:, None] * 1.0, targets, [str(i) for i in range(n)])


def dataset(n=400, shares=(0.5, 0.2, 0.05), seed=0):
    random = np.random.default_rng(seed)
    targets = {name: (random.random((m, len(shares))) < shares).astype(int) for name, m in (("train", n), ("test", 50))}
    parts = {"train": part(targets["train"]), "test": part(targets["test"], n)}
    return make_dataset("x", ("a", "b", "c"), parts, target=Labels())


def test_lists_of_names_or_numbers_become_zeros_and_ones():
    codes, names = encode_labels({"train": [["b"], [], ["a", "c"]], "test": [("c", "b")]}, "x")
    assert names == ["a", "b", "c"]
    assert codes["train"].tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert codes["test"].tolist() == [[0, 1, 1]]
    codes, names = encode_labels({"train": [[2], [0, 1]]}, "x", ["p", "q", "r"])
    assert (codes["train"].tolist(), names) == ([[0, 0, 1], [1, 1, 0]], ["p", "q", "r"])


def test_columns_of_zeros_and_ones_stand_as_they_are():
    codes, names = encode_labels({"train": np.array([[True, False], [True, True]])}, "x", ["p", "q"])
    assert (codes["train"].tolist(), names) == ([[1, 0], [1, 1]], ["p", "q"])
    assert codes["train"].dtype == np.int64


@pytest.mark.parametrize(
    ("raw", "ignore", "text"),
    [
        ({"train": [["a"], ["b"]], "test": [["z"]]}, None, "row 0 of test has the label 'z' in y, which is none"),
        ({"train": [["a"], None]}, None, "row 1 of train has None in y where other rows have lists"),
        ({"train": np.array([[0, 1], [2, 0]])}, None, "row 1 of train has .*2.* in label column 0 of y, expected"),
        ({"train": [[0], [1]]}, -1, "ignore_label leaves out the rows of one class, in y a row has several labels"),
    ],
)
def test_odd_targets_are_refused(raw, ignore, text):
    with pytest.raises(InputError, match=text):
        encode_labels(raw, "y", None, ignore)


@pytest.mark.parametrize(
    ("train", "test", "names", "text"),
    [
        ([[0, 1], [0, 1]], [[1, 0]], "ab", r"in train 2 labels stand at no row or at every one \(a, b\)"),
        ([[0, 1], [1, 0]], [[1, 0]], "abc", "train has 2 label columns and 3 names"),
        ([[0, 1], [1, 0]], np.zeros((0, 2), int), "ab", "test has no rows"),
        ([[0, 1], [1, 0]], [0, 1], "ab", "test has one label per row where another partition has several"),
        ([[0, 3], [1, 0]], [[0, 1]], "ab", "train has label columns with other values than 0 and 1"),
    ],
)
def test_faulty_targets_are_refused(train, test, names, text):
    parts = {"train": part(np.array(train)), "test": part(np.array(test))}
    with pytest.raises(InputError, match=text):
        make_dataset("x", list(names), parts, target=Labels())


def test_each_row_belongs_to_the_stratum_of_its_rarest_label():
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 0]])
    assert Labels().strata(targets).tolist() == [1, 0, 3, 2, 2, 1]
    assert Labels().strata(targets[:2], targets[::-1]).tolist() == [1, 0]
    assert OneClass().strata(np.array([2, 0, 1])).tolist() == [2, 0, 1]


def test_protocols_see_strata_and_the_fingerprint_of_the_dataset():
    data = dataset()
    seen = with_strata(data)
    assert (data.target, seen.target) == (Labels(), OneClass())
    assert seen.fingerprint == data.fingerprint
    assert seen.class_names == ("a", "b", "c", "no label")
    plain = make_dataset("y", "ab", {"train": part([0, 1]), "test": part([1])})
    assert with_strata(plain) is plain


def test_a_dataset_made_by_hand_is_checked_too():
    parts = {"train": part(np.array([[0, 7], [1, 0]])), "test": part(np.array([[0, 1]]))}
    with pytest.raises(InputError, match="dataset x cannot be used: train has label columns with other values"):
        check_dataset(Dataset("x", ("a", "b"), parts, target=Labels()))


def test_what_a_label_is_is_declared_and_not_read_off_the_shape():
    columns = {"train": part(np.array([[0, 1], [1, 0]])), "test": part(np.array([[0, 1]]))}
    with pytest.raises(InputError, match=r"train has labels of shape \(2, 2\), which are not one class per row"):
        make_dataset("x", "ab", columns)
    codes = {"train": part(np.array([0, 1])), "test": part(np.array([1]))}
    with pytest.raises(InputError, match="train has one label per row where"):
        make_dataset("x", "ab", codes, target=Labels())
    assert make_dataset("x", "ab", codes).target == OneClass()


def test_loaders_declare_what_they_found():
    assert target_of({"train": ["a", "b"]}) == OneClass()
    assert target_of({"train": [["a"], []]}) == Labels()
    assert target_of({"train": np.array([[0, 1]])}) == Labels()


def test_a_target_is_found_by_the_name_that_records_have():
    assert targets.named("labels") == Labels()
    assert targets.recorded({"name": "digits"}) == OneClass()
    assert targets.recorded({"name": "x", "target": "labels"}) == Labels()
    known = "captions, labels, mask, number, number_map, one_class, relevance"
    with pytest.raises(InputError, match=f"'os' is unknown, expected one of {known}: use one of them"):
        targets.named("os")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0.7, 1.9, 1.0], "2 labels not whole within 64 bits, the first is 0.7: give class codes from 0 on"),
        ([[0, 1], [0.5, 1]], "1 label not whole within 64 bits, the first is 0.5"),
        ([0, float("nan")], "1 label not whole within 64 bits, the first is nan"),
        ([0.0, 1e19], "1 label not whole within 64 bits, the first is 1e"),
        (np.array([2**63 + 5, 1], dtype=np.uint64), "1 label not whole within 64 bits, the first is 9223"),
        (["0", "1"], "labels are <U1, expected class codes from 0 on: encode them first"),
    ],
)
def test_labels_that_are_no_whole_numbers_are_refused_not_cut(labels, text, tmp_path):
    ids = [str(i) for i in range(len(labels))]
    with pytest.raises(InputError, match=re.escape(text)):
        ArrayPartition(np.zeros((len(labels), 2)), labels, ids)
    with pytest.raises(InputError, match=re.escape(text)):
        ImageFiles(tmp_path, ids, labels)


@pytest.mark.parametrize("labels", [[True, False], [0.0, 2.0], np.array([3, 1], np.uint8), []])
def test_whole_numbers_of_any_type_are_codes(labels):
    codes = targets.class_codes(labels)
    assert codes.dtype == np.int64
    assert codes.tolist() == list(labels)


def test_a_partition_of_ones_own_with_broken_labels_is_refused_by_the_dataset():
    broken = part([0, 1])
    broken.labels = np.array([0.0, 0.7])
    with pytest.raises(InputError, match=r"train has 1 label out of range, the first is 0\.7 in row 1"):
        make_dataset("x", "ab", {"train": broken, "test": part([1])})


def test_labels_are_shown_by_name():
    assert OneClass().shown(1, ("cat", "dog")) == "dog"
    assert Labels().shown(np.array([1, 0, 1]), ("a", "b", "c")) == "a, c"
    assert Labels().shown(np.array([0, 0]), ("a", "b")) == "-"


@pytest.mark.parametrize(
    "protocol", [Full(), Fraction(0.5), RandomRows(n=80, stratified=True), CrossValidation()], ids=lambda p: p.name
)
def test_rare_labels_are_shared_out(protocol):
    data = dataset()
    targets = data.partitions["train"].labels
    split = protocol.split(with_strata(data), 0)
    train, validation = targets[split.train.indices], targets[split.validation.indices]
    share = len(validation) / (len(train) + len(validation))
    rare = targets[:, 2].sum() * (len(train) + len(validation)) / len(targets)
    # Strata are cut to whole rows: each within one row of its share.
    assert abs(validation[:, 2].sum() - share * rare) <= 1.5
    np.testing.assert_array_equal(split.train.indices, protocol.split(with_strata(data), 0).train.indices)


def test_rows_per_label_and_limits():
    data = dataset()
    train = data.partitions["train"]
    np.testing.assert_array_equal(data.target.counts(train.labels, 3), train.labels.sum(axis=0))
    assert OneClass().counts(np.array([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]
    cut = limited(data, 40).partitions["train"]
    assert cut.labels.shape == (40, 3)
    assert cut.labels.any(axis=0).all()
    assert len(limited(data, 3).partitions["train"]) == 3
