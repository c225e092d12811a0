import json
import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from probe.core.errors import InputError
from probe.datasets.features import load
from probe.datasets.shared.partitions import count_duplicates

ROWS = {
    part: np.random.default_rng(i).normal(size=(6, 4)).astype(np.float32) for i, part in enumerate(("train", "test"))
}
LABELS = np.array([0, 1, 2, 0, 1, 2])


def write(folder, kind, rows=ROWS, labels=LABELS, keys=("features", "labels")):
    folder.mkdir(exist_ok=True)
    for part, X in rows.items():
        file, arrays = folder / f"{part}.{kind}", {keys[0]: X, keys[1]: labels}
        if kind == "npz":
            np.savez(file, **arrays)
        elif kind == "npy":
            np.save(file, X)
            np.save(folder / f"{part}_labels.npy", labels)
        elif kind == "safetensors":
            save_file(arrays, file)
        else:
            pq.write_table(pa.table({keys[0]: list(X), keys[1]: labels}), file)
    return str(folder)


@pytest.mark.parametrize("kind", ["npz", "npy", "safetensors", "parquet"])
def test_every_format_gives_the_same_rows_and_labels(tmp_path, kind):
    data = load(write(tmp_path / "mine", kind))
    assert (data.name, data.class_names) == ("mine", ("0", "1", "2"))
    for part, X in ROWS.items():
        given = data.partitions[part]
        np.testing.assert_array_equal(np.stack([given[i] for i in range(6)]), X)
        np.testing.assert_array_equal(given.labels, LABELS)
        assert given[0].dtype == np.float32


def test_npy_stays_on_disk_and_is_not_pickled_by_value(tmp_path):
    rows = {part: np.zeros((50_000, 16), np.float16) for part in ROWS}
    part = load(write(tmp_path / "a", "npy", rows, np.arange(50_000) % 2)).partitions["train"]
    assert isinstance(part.rows, np.memmap)
    copy = pickle.loads(pickle.dumps(part))
    assert isinstance(copy.rows, np.memmap)
    assert len(pickle.dumps(part.__getstate__()["rows"])) < 100


@pytest.mark.parametrize("kind", ["npz", "npy", "safetensors", "parquet"])
def test_fingerprint_sees_one_value_and_one_label_but_no_time(tmp_path, kind):
    folder = tmp_path / "a"

    def fingerprint(rows=ROWS, labels=LABELS):
        return load(write(folder, kind, rows, labels)).partitions["train"].fingerprint

    first = fingerprint()
    os.utime(folder / f"train.{kind}", (1, 1))
    assert load(str(folder)).partitions["train"].fingerprint == first
    touched = {**ROWS, "train": ROWS["train"].copy()}
    touched["train"][5, 3] += 1e-6
    assert len({first, fingerprint(touched), fingerprint(labels=LABELS[::-1].copy())}) == 3


def test_keys_are_found_or_given_and_strings_may_be_labels(tmp_path):
    names = np.array(["cat", "dog", "elk"] * 2)
    data = load(write(tmp_path / "a", "npz", labels=names, keys=("X", "y")))
    assert data.class_names == ("cat", "dog", "elk")
    path = write(tmp_path / "b", "npz", labels=names, keys=("layer9", "kind"))
    with pytest.raises(
        InputError, match=r"has the arrays layer9, kind, expected features or pooled .*dataset\.features_key"
    ):
        load(path)
    assert load(path, features_key="layer9", labels_key="kind").partitions["test"].labels.tolist() == [0, 1, 2] * 2


def test_class_names_are_taken(tmp_path):
    assert load(write(tmp_path / "a", "npz"), class_names=["x", "y", "z"]).class_names == ("x", "y", "z")


@pytest.mark.parametrize(
    ("rows", "labels", "text"),
    [
        ({part: X[:, 0] for part, X in ROWS.items()}, LABELS, r"float32 of shape \(6,\), expected floats of shape"),
        ({part: X.astype(int) for part, X in ROWS.items()}, LABELS, r"int64 of shape \(6, 4\), expected floats"),
        (ROWS, LABELS[:5], r"labels of .*train\.npz have shape \(5,\), expected one, or a column per label, for each"),
        ({**ROWS, "test": ROWS["test"][:, :3]}, LABELS, r"test\.npz have width 3, those of train 4"),
        (ROWS, LABELS - 1, r"train has 2 labels out of range, the first is -1 in row 0"),
    ],
)
def test_unfitting_arrays_are_refused(tmp_path, rows, labels, text):
    with pytest.raises(InputError, match=text):
        load(write(tmp_path / "a", "npz", rows, labels))


def test_pickled_objects_are_refused(tmp_path):
    path = write(tmp_path / "a", "npz")
    np.savez(tmp_path / "a/train.npz", features=ROWS["train"], labels=np.array([{}] * 6, dtype=object))
    with pytest.raises(InputError, match=r"train\.npz cannot be read .*without pickled objects"):
        load(path)


def test_dtypes_that_numpy_lacks_are_refused(tmp_path):
    path = write(tmp_path / "a", "safetensors")
    save_torch({"features": torch.zeros(6, 4, dtype=torch.bfloat16)}, tmp_path / "a/train.safetensors")
    with pytest.raises(InputError, match=r"train\.safetensors cannot be read"):
        load(path)


def test_ragged_lists_are_refused(tmp_path):
    path = write(tmp_path / "a", "parquet")
    pq.write_table(pa.table({"features": [[1.0], [1.0, 2.0]], "labels": [0, 1]}), tmp_path / "a/train.parquet")
    with pytest.raises(InputError, match="lists of different lengths"):
        load(path)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none is given: set dataset\.path"):
        load()
    with pytest.raises(InputError, match=r"there is no .*nowhere\.npz, expected train and test as \.npy"):
        load(str(tmp_path / "nowhere.npz"))
    (tmp_path / "train.txt").write_text("x")
    with pytest.raises(InputError, match=r"train\.txt is a file of another kind, expected train and test as \.npy"):
        load(str(tmp_path / "train.txt"))
    with pytest.raises(InputError, match=r"has train\.txt, expected train and test as \.npy, \.npz"):
        load(str(tmp_path))
    write(tmp_path, "npy")
    (tmp_path / "test_labels.npy").unlink()
    with pytest.raises(InputError, match=r"test\.npy has no labels beside it, expected test_labels\.npy"):
        load(str(tmp_path))
    np.savez(tmp_path / "train.npz", features=ROWS["train"], labels=LABELS)
    with pytest.raises(InputError, match=r"has train\.npy and train\.npz, expected one of them"):
        load(str(tmp_path))


def test_a_column_per_label_gives_targets(tmp_path):
    targets = np.array([[1, 0], [0, 1], [1, 1]] * 2)
    data = load(write(tmp_path / "a", "npy", labels=targets))
    np.testing.assert_array_equal(data.partitions["test"].labels, targets)


def test_copies_of_training_rows_are_counted(tmp_path):
    rows = {**ROWS, "test": np.concatenate([ROWS["test"][:4], ROWS["train"][:2]])}
    for kind in ("npy", "parquet"):
        assert count_duplicates(load(write(tmp_path / kind, kind, rows))) == {"test": 2}


@pytest.mark.parametrize(
    "lists",
    [
        [[0.0, 1.0], [2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0], [9.0, 10.0, 11.0]],  # 12 values, as 4 rows of 3
        [[1.0], [2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0]],
        [[], [1.0, 2.0], [3.0, 4.0], []],
    ],
)
def test_values_never_move_from_one_row_to_its_neighbour(tmp_path, lists):
    for part in ("train", "test"):
        table = pa.table({"features": pa.array(lists, pa.list_(pa.float32())), "label": [0, 1, 0, 1]})
        pq.write_table(table, tmp_path / f"{part}.parquet")
    with pytest.raises(InputError, match=r"train\.parquet has lists of different lengths \(\d lengths\), expected one"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (pa.array([[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]]), "lists of different lengths .a row without a list"),
        (pa.array([[1.0, 2.0], None] * 2, pa.list_(pa.float64(), 2)), "lists of different lengths .a row without"),
        (pa.array([[1.0, None], [2.0, 3.0]] * 2), "lists with missing values, expected numbers"),
        (pa.array([1.0, 2.0, 3.0, 4.0]), "is double, expected lists of floats"),
    ],
)
def test_missing_values_are_refused_and_not_made_up(tmp_path, features, text):
    pq.write_table(pa.table({"features": features, "label": [0, 1, 0, 1]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=text):
        load(str(tmp_path))


def test_fixed_size_lists_and_several_chunks_are_read(tmp_path):
    kind = pa.list_(pa.float32(), 2)
    column = pa.chunked_array([pa.array([[0, 1], [2, 3]], kind), pa.array([[4, 5], [6, 7]], kind)])
    pq.write_table(pa.table({"features": column, "label": [0, 1, 0, 1]}), tmp_path / "train.parquet", row_group_size=1)
    np.testing.assert_array_equal(load(str(tmp_path)).partitions["train"].rows, np.arange(8.0).reshape(4, 2))


def test_codes_are_read_with_the_files_own_dictionary(tmp_path):
    for part, names in (("train", ["cat", "dog"]), ("test", ["dog", "cat"])):
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = pa.table({"features": [[1.0], [2.0]], "label": [0, 1]})
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / f"{part}.parquet")
    data = load(str(tmp_path))
    assert [data.partitions[part].labels.tolist() for part in ("train", "test")] == [[0, 1], [1, 0]]


def test_a_single_file_is_train_and_other_files_are_told(tmp_path):
    write(tmp_path / "a", "npz")
    alone = load(str(tmp_path / "a/train.npz"))
    assert (alone.name, list(alone.partitions)) == ("train", ["train"])
    (tmp_path / "a/dev.npz").write_bytes(b"")
    assert load(str(tmp_path / "a")).notes["left_out"] == ["1 file named for no partition (dev.npz)"]
    assert "left_out" not in load(write(tmp_path / "b", "npy")).notes


def test_train_chooses_the_arrays_of_all_files(tmp_path):
    path = write(tmp_path / "a", "npz", keys=("pooled", "y"))
    np.savez(tmp_path / "a/test.npz", X=ROWS["test"], y=LABELS)
    with pytest.raises(InputError, match=r"test\.npz has the arrays X, y, expected pooled with features"):
        load(path)
    np.savez(tmp_path / "a/train.npz", pooled=ROWS["train"], X=ROWS["train"], y=LABELS)
    with pytest.raises(InputError, match=r"2 arrays that may hold features \(pooled, X\).*dataset\.features_key"):
        load(path)


def test_lists_of_labels_of_one_length_are_lists_and_columns_of_zeros_and_ones_are_columns(tmp_path):
    for name, labels, names in (("a", [[0, 2], [1, 2], [1, 0]], 3), ("b", [[1, 0, 0], [0, 1, 1], [0, 0, 1]], 3)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"features": [[1.0]] * 3, "labels": labels}), tmp_path / name / "train.parquet")
        targets = load(str(tmp_path / name)).partitions["train"].labels
        assert targets.shape == (3, names)
        assert targets[0].tolist() == ([1, 0, 1] if name == "a" else [1, 0, 0])


def contract_case(root):
    root.mkdir()
    for i, part in enumerate(("train", "test")):
        np.save(root / f"{part}.npy", np.arange(12, dtype=np.float32).reshape(4, 3) + i)
        np.save(root / f"{part}_labels.npy", [0, 1, 0, 1])
    return {"path": str(root)}
