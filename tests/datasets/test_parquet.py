import io
import json
import multiprocessing
import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.datasets.parquet import load
from probe.datasets.shared import parquet_rows
from probe.datasets.shared.partitions import count_duplicates

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encoded(value):
    buffer = io.BytesIO()
    Image.new("L", (2, 2), value).save(buffer, "PNG")
    return buffer.getvalue()


def write(path, values, labels, names=("cat", "dog"), image="image", label="label", group=3, plain=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    blobs = [encoded(v) for v in values]
    images = pa.array(blobs, pa.binary()) if plain else pa.array([{"bytes": b, "path": None} for b in blobs], STRUCT)
    table = pa.table({image: images, label: pa.array(labels)})
    if names:
        info = {"info": {"features": {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=group)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "pets"
    write(folder / "train-00000-of-00002.parquet", range(7), [0, 1, 0, 1, 0, 1, 0])
    write(folder / "train-00001-of-00002.parquet", range(7, 12), [1, 0, 1, 0, 1])
    write(folder / "test-00000-of-00001.parquet", range(100, 104), [0, 1, 0, 1])
    return folder


def value(partition, row):
    return np.asarray(partition[row])[0, 0]


def test_rows_labels_and_names(root):
    data = load(str(root))
    train = data.partitions["train"]
    assert (data.name, data.class_names) == ("pets", ("cat", "dog"))
    assert [value(train, i) for i in range(12)] == list(range(12))
    assert train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert train.ids[7] == "train-00001-of-00002.parquet:0"
    assert value(data.partitions["test"], -1) == 103
    with pytest.raises(IndexError):
        train[12]


def test_rows_may_be_read_in_any_order_and_with_little_memory(root, monkeypatch):
    monkeypatch.setattr(parquet_rows, "CACHE_BYTES", 1)
    train = load(str(root)).partitions["train"]
    order = np.random.default_rng(0).permutation(12)
    assert [value(train, int(i)) for i in order] == order.tolist()
    assert len(train._reader._kept) == 1


def test_data_folder_validation_and_plain_binary(tmp_path):
    write(tmp_path / "data/train.parquet", range(4), ["b", "a", "b", "a"], names=None, plain=True)
    write(tmp_path / "data/validation-0.parquet", range(2), ["a", "b"], names=None, plain=True)
    data = load(str(tmp_path), name="x")
    assert data.class_names == ("a", "b")
    assert data.partitions["train"].labels.tolist() == [1, 0, 1, 0]
    assert list(data.partitions) == ["train", "test"]
    assert value(data.partitions["test"], 1) == 1


def test_numbers_without_names_stand_for_themselves(tmp_path):
    write(tmp_path / "train.parquet", range(3), [0, 1, 2], names=None, image="img", label="fine_label")
    write(tmp_path / "test.parquet", range(1), [2], names=None, image="img", label="fine_label")
    data = load(str(tmp_path))
    assert data.class_names == ("0", "1", "2")


def test_fingerprint_sees_content_labels_and_order_but_no_time(root):
    def fingerprint():
        return load(str(root)).partitions["train"].fingerprint

    seen = [fingerprint()]
    os.utime(root / "train-00001-of-00002.parquet", (1, 1))
    assert fingerprint() == seen[0]
    for values, labels in [
        ([7, 8, 9, 10, 99], [1, 0, 1, 0, 1]),
        (range(7, 12), [1, 0, 1, 0, 0]),
        ([8, 7, 9, 10, 11], [0, 1, 1, 0, 1]),
    ]:
        write(root / "train-00001-of-00002.parquet", values, labels)
        seen.append(fingerprint())
    assert len(set(seen)) == len(seen)


def test_names_may_be_given_and_rows_ignored(root):
    data = load(str(root), class_names=["Katze", "Hund"])
    assert data.class_names == ("Katze", "Hund")
    write(root / "train-00002-of-00003.parquet", [50, 51], [-1, -1])
    train = load(str(root), ignore_label=-1).partitions["train"]
    assert len(train) == 12
    assert value(train, 11) == 11


def test_pickled_and_forked_copies_read_the_same_rows(root):
    train = load(str(root)).partitions["train"]
    assert value(train, 0) == 0  # opens a reader, which must not travel
    assert value(pickle.loads(pickle.dumps(train)), 11) == 11
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put([value(train, i) for i in range(12)]))
    child.start()
    assert queue.get(timeout=30) == list(range(12))
    child.join()


def test_undecodable_rows_name_file_and_row(root):
    blobs = [{"bytes": encoded(0), "path": None}, {"bytes": b"junk", "path": None}, {"bytes": None, "path": "a.png"}]
    table = pa.table({"image": pa.array(blobs, STRUCT), "label": [0, 1, 0]})
    pq.write_table(table, root / "test-00000-of-00001.parquet")
    part = load(str(root), class_names=["cat", "dog"]).partitions["test"]
    with pytest.raises(InputError, match=r"test-00000-of-00001\.parquet:1 \(row 1\) is no image"):
        part[1]
    with pytest.raises(InputError, match=r"parquet:2 \(row 2\) holds no image bytes"):
        part[2]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"image_column": "picture"},
            r"has the columns image \(struct.*expected picture with encoded images: .*to one of image",
        ),
        ({"label_column": "kind"}, r"the columns .*label \(int64\), expected kind with the classes"),
    ],
)
def test_unknown_columns_list_what_there_is(root, options, text):
    with pytest.raises(InputError, match=text):
        load(str(root), **options)


def test_other_bad_folders_are_refused(root, tmp_path):
    with pytest.raises(InputError, match=r"none is given: set dataset.path"):
        load(None)
    with pytest.raises(InputError, match="has pets, expected train-"):
        load(str(tmp_path))
    (root / "test-00000-of-00001.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"test-00000-of-00001\.parquet is no readable parquet file"):
        load(str(root))


def test_null_labels_and_labels_out_of_range_are_refused(root):
    write(root / "test-00000-of-00001.parquet", range(2), [0, None])
    with pytest.raises(InputError, match="row 1 of test has the label None in column label"):
        load(str(root))
    write(root / "test-00000-of-00001.parquet", range(2), [0, -1])
    with pytest.raises(InputError, match=r"test has 1 label out of range, the first is -1 in row 1"):
        load(str(root))


def test_several_labels_come_as_lists_or_as_columns(tmp_path):
    names = ("cat", "dog", "elk")
    for part, lists in (("train", [[0, 2], [1], []]), ("test", [[2, 1]])):
        blobs = [{"bytes": encoded(i), "path": None} for i in range(len(lists))]
        columns = {c: [k in labels for labels in lists] for k, c in enumerate(names)}
        table = pa.table({"image": pa.array(blobs, STRUCT), "labels": lists, **columns})
        kind = {"feature": {"names": list(names), "_type": "ClassLabel"}, "_type": "Sequence"}
        info = {"info": {"features": {"labels": kind}}}
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / f"{part}.parquet")
    for data in (load(str(tmp_path)), load(str(tmp_path), label_column=names)):
        assert data.class_names == names
        assert data.partitions["train"].labels.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
        assert data.partitions["test"].labels.tolist() == [[0, 1, 1]]


def test_copies_of_training_images_are_counted_and_their_digests_remembered(root, monkeypatch):
    write(root / "test-00000-of-00001.parquet", [3, 100, 11, 3], [0, 1, 0, 1])
    monkeypatch.setattr("probe.core.files.RACY_NS", -(10**12))  # as if the files were written long ago
    assert count_duplicates(load(str(root))) == {"test": 3}
    monkeypatch.setattr(parquet_rows.ParquetPartition, "_encoded", None)  # nothing is read again
    assert count_duplicates(load(str(root))) == {"test": 3}


def test_columns_say_more_of_each_row(root):
    for file in root.glob("train-*.parquet"):
        table = pq.read_table(file)
        days = pa.array([f"day {i % 2}" for i in range(len(table))])
        pq.write_table(table.append_column("day", days).append_column("steps", pa.array(range(len(table)))), file)
    data = load(str(root), session_column="day", hardness_column="steps", group_column="day")
    train = data.partitions["train"]
    assert train.sessions.tolist() == train.groups.tolist() == [f"day {i % 2}" for i in [*range(7), *range(5)]]
    assert train.hardness.tolist() == [*range(7), *range(5)]
    assert not hasattr(data.partitions["test"], "sessions")
    with pytest.raises(InputError, match=r"train-00000-of-00002.parquet has the columns .*, expected hour: name one"):
        load(str(root), session_column="hour")


def test_codes_are_read_with_the_files_own_dictionary(root):
    as_it_was = load(str(root))
    write(root / "test-00000-of-00001.parquet", range(100, 104), [1, 0, 1, 0], names=("dog", "cat"))
    data = load(str(root))
    assert data.class_names == ("cat", "dog")
    assert data.partitions["test"].labels.tolist() == as_it_was.partitions["test"].labels.tolist()
    assert data.partitions["train"].fingerprint == as_it_was.partitions["train"].fingerprint
    write(root / "train-00001-of-00002.parquet", range(7, 12), [0, 1, 0, 1, 0], names=("dog", "cat"))
    assert load(str(root)).partitions["train"].labels.tolist() == as_it_was.partitions["train"].labels.tolist()
    german = load(str(root), class_names=["Katze", "Hund"])
    assert german.partitions["test"].labels.tolist() == [0, 1, 0, 1]


def test_codes_of_another_dictionary_give_another_fingerprint_than_the_same_codes_did(root):
    write(root / "test-00000-of-00001.parquet", range(100, 104), [1, 0, 1, 0], names=("dog", "cat"))
    test = load(str(root)).partitions["test"]
    plain = parquet_rows.ParquetPartition(test.files, "image", "label", np.array([1, 0, 1, 0]))
    assert test.fingerprint != plain.fingerprint


def test_a_dictionary_that_cannot_be_matched_is_refused(root):
    write(root / "test-00000-of-00001.parquet", range(2), [0, 1], names=("cat", "elk"))
    with pytest.raises(
        InputError, match=r"test-.* has rows of class elk in column label, which train-.* does not name"
    ):
        load(str(root))
    write(root / "test-00000-of-00001.parquet", range(2), [0, 1], names=None)
    with pytest.raises(
        InputError, match=r"test-.* does not say what the codes of column label are called.*class_names"
    ):
        load(str(root))
    assert load(str(root), class_names=["cat", "dog"]).partitions["test"].labels.tolist() == [0, 1]
    write(root / "test-00000-of-00001.parquet", range(2), ["dog", "cat"], names=None)
    assert load(str(root)).partitions["test"].labels.tolist() == [1, 0]


@pytest.mark.parametrize("shard", ["train-00001-of-00002", "test-00000-of-00001"])
def test_text_in_the_image_column_opens_no_file(root, tmp_path, monkeypatch, shard):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (2, 2), 77).save("x.png")
    pq.write_table(pa.table({"image": ["x.png", "x.png"], "label": [0, 1]}), root / f"{shard}.parquet")
    with pytest.raises(InputError, match=rf"{shard}\.parquet has no encoded images in column image.*image \(string\)"):
        load(str(root))
    for file in root.iterdir():
        pq.write_table(pa.table({"image": ["x.png", "x.png"], "label": [0, 1]}), file)
    with pytest.raises(InputError, match=r"column image of .*pets is string, expected encoded images: .*not followed"):
        load(str(root))


def test_a_path_in_place_of_bytes_opens_no_file(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (2, 2), 77).save("x.png")
    blobs = pa.array([{"bytes": None, "path": str(tmp_path / "x.png")}, {"bytes": None, "path": "x.png"}], STRUCT)
    pq.write_table(pa.table({"image": blobs, "label": [0, 1]}), root / "test-00000-of-00001.parquet")
    test = load(str(root), class_names=["cat", "dog"]).partitions["test"]
    for row in range(2):
        with pytest.raises(InputError, match=r"holds no image bytes, expected encoded images in column image"):
            test[row]


def test_shards_have_the_same_columns_each_once(root):
    write(root / "train-00001-of-00002.parquet", range(2), [0, 1], label="class")
    with pytest.raises(InputError, match=r"train-00001-of-00002\.parquet has no column label, its columns are image"):
        load(str(root))
    blobs = pa.array([{"bytes": encoded(0), "path": None}] * 2, STRUCT)
    table = pa.Table.from_arrays([blobs, pa.array([0, 1]), pa.array([1, 0])], ["image", "label", "label"])
    pq.write_table(table, root / "train-00001-of-00002.parquet")
    with pytest.raises(InputError, match=r"train-00001-of-00002\.parquet has several columns named 'label', expected"):
        load(str(root))


def masked(path, names):
    columns = {name: pa.array([{"bytes": encoded(k), "path": None}] * 2, STRUCT) for k, name in enumerate(names)}
    pq.write_table(pa.table({**columns, "label": [0, 1]}), path)


def test_a_mask_that_comes_first_is_not_the_image(tmp_path):
    masked(tmp_path / "train.parquet", ["annotation", "image"])
    assert value(load(str(tmp_path)).partitions["train"], 0) == 1
    masked(tmp_path / "train.parquet", ["annotation", "scan"])
    with pytest.raises(InputError, match=r"2 columns that may hold encoded images \(annotation, scan\).*image_column"):
        load(str(tmp_path))
    assert value(load(str(tmp_path), image_column="scan").partitions["train"], 0) == 1


def test_files_that_name_no_partition_are_train_and_others_are_told(tmp_path):
    write(tmp_path / "0000.parquet", range(2), [0, 1])
    write(tmp_path / "0001.parquet", range(2, 4), [1, 0])
    data = load(str(tmp_path))
    assert list(data.partitions) == ["train"]
    assert data.partitions["train"].labels.tolist() == [0, 1, 1, 0]
    alone = load(str(tmp_path / "0000.parquet"))
    assert (alone.name, len(alone.partitions["train"])) == ("0000", 2)
    write(tmp_path / "train.parquet", range(2), [0, 1])
    data = load(str(tmp_path))
    assert len(data.partitions["train"]) == 2
    assert data.notes["left_out"] == ["2 files named for no partition (0000.parquet, 0001.parquet)"]


def test_a_column_per_feature_makes_vectors(tmp_path):
    for part, first in (("train-0", 0), ("train-1", 3), ("test", 6)):
        x = np.arange(first, first + 3, dtype=np.float32)
        table = pa.table({"x": x, "y": -x, "label": ["a", "b", "a"], "day": ["m", "t", "w"]})
        pq.write_table(table, tmp_path / f"{part}.parquet")
    with pytest.raises(
        InputError, match=r"beside the labels 'day', which may be no features.*dataset\.feature_columns"
    ):
        load(str(tmp_path))
    for options in ({"session_column": "day"}, {"feature_columns": ["x", "y"]}):
        train = load(str(tmp_path), **options).partitions["train"]
        assert train.rows.dtype == np.float32
        assert train[4].tolist() == [4, -4]
    assert load(str(tmp_path), session_column="day").partitions["test"].sessions.tolist() == ["m", "t", "w"]
    table = pa.table({"x": pa.array([1.0, None, 2.0]), "y": [1.0, 2.0, 3.0], "label": ["a", "b", "a"]})
    pq.write_table(table, tmp_path / "test.parquet")
    with pytest.raises(InputError, match=r"row 1 of .*test\.parquet has no value in column x, expected a number"):
        load(str(tmp_path), feature_columns=["x", "y"])
    pq.write_table(pa.table({"x": ["1"], "y": [1.0], "label": ["a"]}), tmp_path / "test.parquet")
    with pytest.raises(InputError, match=r"test\.parquet has no numbers in column x, as other files have"):
        load(str(tmp_path), feature_columns=["x", "y"])


def test_labels_with_gaps_are_mapped_on_request(tmp_path):
    write(tmp_path / "train.parquet", range(3), [3, 7, 10**9], names=None)
    with pytest.raises(InputError, match=r"labels of train are 3, 7, 1000000000, expected 0 to 2.*map_labels=true"):
        load(str(tmp_path))
    data = load(str(tmp_path), map_labels=True)
    assert (data.class_names, data.partitions["train"].labels.tolist()) == (("3", "7", "1000000000"), [0, 1, 2])


def contract_case(root):
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir()
    for part in ("train", "test"):
        blobs = []
        for i in range(4):
            buffer = io.BytesIO()
            Image.new("L", (3, 3), i).save(buffer, "PNG")
            blobs.append({"bytes": buffer.getvalue(), "path": None})
        pq.write_table(pa.table({"image": blobs, "label": [0, 1, 0, 1]}), root / f"{part}-0.parquet")
    return {"path": str(root)}


def write_series(folder, columns, labels=("a", "b", "a")):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({**columns, "label": list(labels)}), folder / "train.parquet", row_group_size=2)
    return str(folder)


def test_lists_are_channels_and_lists_of_lists_all_of_them(tmp_path):
    x, y = [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]], [[0.0, 0.0], [1.0], [2.0, 2.0, 2.0]]
    steps = [[list(step) for step in zip(*row, strict=True)] for row in zip(x, y, strict=True)]
    by_channel = load(write_series(tmp_path / "a", {"acc_x": x, "acc_y": y}), series_columns="acc_*")
    by_step = load(write_series(tmp_path / "b", {"series": steps}))
    assert by_channel.rows == by_step.rows == "series"
    assert by_channel.partitions["train"].lengths.tolist() == [2, 1, 3]
    np.testing.assert_array_equal(by_channel.partitions["train"][2], [[4, 2], [5, 2], [6, 2]])
    assert by_channel.fingerprint == by_step.fingerprint
    fixed = {"series": pa.array([[[1, 2]], [[3, 4]], [[5, 6]]], pa.list_(pa.list_(pa.int16(), 2)))}
    np.testing.assert_array_equal(load(write_series(tmp_path / "c", fixed)).partitions["train"][1], [[3, 4]])


def test_nulls_in_series_are_missing_values(tmp_path):
    path = write_series(tmp_path / "a", {"series": [[1.0, None, 3.0], [3.0, None], [4.0]]})
    with pytest.raises(InputError, match=r"row 0 of train of .* has no value in step 1 of channel 0"):
        load(path)
    train = load(path, gaps="interpolate").partitions["train"]
    assert [row[:, 0].tolist() for row in (train[0], train[1])] == [[1, 2, 3], [3]]


@pytest.mark.parametrize(
    ("columns", "asked", "text"),
    [
        ({"a": [[1.0], [1.0], [1.0]]}, "b", r"names b, which no column of lists of numbers in .* is called \(a\)"),
        ({"a": [1.0, 2.0, 3.0]}, "a", r"names a, which no column of lists of numbers .*\(it has none\)"),
        ({"a": [["x"], ["y"], ["z"]]}, "a", r"names a, which no column of lists of numbers .*\(it has none\)"),
        ({"series": [[1.0], None, [1.0]]}, None, r"row 1 of column series of .* has no list, expected a series"),
        ({"series": [[[1.0, 2.0], [1.0]]] * 3}, None, r"column series of .* has steps of 1, 2 channels, expected as"),
        (
            {"a": [[1.0]] * 3, "b": [[1.0, 2.0]] * 3},
            ["a", "b"],
            r"row 0 of .* has lists of 1, 2 numbers in the columns",
        ),
    ],
)
def test_columns_that_are_no_series_are_refused(tmp_path, columns, asked, text):
    with pytest.raises(InputError, match=text):
        load(write_series(tmp_path / "a", columns), series_columns=asked)
