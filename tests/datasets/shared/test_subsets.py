import pickle

import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.datasets.shared.partitions import ArrayPartition, ImageFiles, count_duplicates, make_dataset
from probe.datasets.shared.row_facts import know
from probe.datasets.shared.subsets import PartitionSubset, limited, spread_rows, subset


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))


def dataset(n_train=100, n_test=20, n_classes=4):
    def part(n, start):
        labels = np.sort(np.arange(n) % n_classes)  # class after class, as folders have them
        rows = np.arange(start, start + n, dtype=np.float64)[:, None]
        return ArrayPartition(rows, labels, [f"r{i}" for i in range(n)])

    return make_dataset("x", list("abcd")[:n_classes], {"train": part(n_train, 0), "test": part(n_test, 90)})


def test_a_subset_gives_the_rows_labels_and_ids_of_the_whole():
    whole = dataset().partitions["train"]
    part = subset(whole, np.array([3, 50, 99]))
    assert (part.ids, part.labels.tolist(), len(part)) == (["r3", "r50", "r99"], [0, 2, 3], 3)
    assert [float(part[i][0]) for i in range(3)] == [3.0, 50.0, 99.0]
    assert part.row_digests() == [whole.row_digests()[i] for i in (3, 50, 99)]
    assert float(pickle.loads(pickle.dumps(part))[1][0]) == 50.0


def test_fingerprint_tells_rows_and_wholes_apart():
    whole, other = dataset().partitions["train"], dataset(n_train=101).partitions["train"]
    rows = np.array([1, 2])
    parts = [whole, *(subset(whole, some) for some in (rows, rows[::-1], rows + 1)), subset(other, rows)]
    assert len({part.fingerprint for part in parts}) == len(parts)
    assert subset(whole, rows).fingerprint == subset(whole, rows.copy()).fingerprint


def test_files_outside_the_subset_do_not_count(tmp_path):
    for i in range(4):
        Image.new("L", (2, 2), i).save(tmp_path / f"{i}.png")
    files = ImageFiles(tmp_path, [f"{i}.png" for i in range(4)], [0, 0, 1, 1])

    def chosen():
        return subset(ImageFiles(tmp_path, files.ids, files.labels), np.array([0, 2])).fingerprint

    before = chosen()
    Image.new("L", (2, 2), 99).save(tmp_path / "3.png")
    assert chosen() == before
    Image.new("L", (2, 2), 99).save(tmp_path / "2.png")
    assert chosen() != before


def test_a_limit_spreads_over_classes_and_within_them():
    data = limited(dataset(), 12)
    train = data.partitions["train"]
    assert isinstance(train, PartitionSubset)
    assert data.name == "x(limit=12)"
    assert {name: len(p) for name, p in data.partitions.items()} == {"train": 12, "test": 12}
    assert np.bincount(train.labels).tolist() == [3, 3, 3, 3]
    assert np.ptp(train.chosen[train.labels == 0]) > 12  # not just the first rows of a class


@pytest.mark.parametrize("n", [5, 6, 11, 30])
def test_a_rare_class_keeps_a_row_and_n_rows_are_given(n):
    labels = np.repeat([0, 1, 2, 3, 4], [500, 3, 400, 1, 96])
    rows = spread_rows(labels, n)
    assert len(np.unique(rows)) == len(rows) == n
    assert set(labels[rows]) == {0, 1, 2, 3, 4}
    assert (np.diff(rows) > 0).all()


def test_a_limit_that_cuts_nothing_is_the_dataset_itself():
    data = dataset()
    assert limited(data, None) is data
    assert limited(data, 100) is data
    cut = limited(data, 50)
    assert cut.partitions["test"] is data.partitions["test"]
    assert cut.fingerprint != data.fingerprint


@pytest.mark.parametrize("limit", [0, -5, 3, 2.5, True])
def test_impossible_limits_are_refused(limit):
    with pytest.raises(InputError, match=rf"limit is {limit}, expected at least one row for each of the 4 classes"):
        limited(dataset(), limit)


def test_duplicates_are_counted_in_subsets():
    data = dataset()
    assert count_duplicates(data) == {"test": 10}
    cut = limited(data, 40)
    kept = set(cut.partitions["train"].chosen.tolist())
    assert count_duplicates(cut) == {"test": sum(90 + i in kept for i in range(20))}


def test_what_is_known_of_each_row_stays_with_it():
    whole = ArrayPartition(np.arange(6.0)[:, None], np.arange(6) % 2, list("abcdef"))
    know(whole, {"groups": np.arange(6), "sessions": list("xxyyzz"), "hardness": None}, "train")
    part = subset(whole, np.array([1, 4]))
    assert part.groups.tolist() == [1, 4]
    assert part.sessions.tolist() == ["x", "z"]
    assert not hasattr(part, "hardness")


@pytest.mark.parametrize("nameless", [None, "", " ", float("nan")])
def test_a_row_without_a_group_is_refused(nameless):
    whole = ArrayPartition(np.arange(3.0)[:, None], [0, 1, 0], list("abc"))
    with pytest.raises(InputError, match=r"groups of train are missing in 1 row, the first is row 1, .*of its own"):
        know(whole, {"groups": np.array(["x", nameless, "y"], dtype=object)}, "train")
