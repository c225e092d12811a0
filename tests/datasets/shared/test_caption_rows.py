"""Captions beside images in tables and shards; `test_captions.py` has those of JSON files."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.core.targets.captions import CAPTIONS
from probe.datasets import csv, parquet, webdataset
from probe.datasets.shared.caption_rows import notes_of_copies, texts_in
from probe.datasets.shared.partitions import LEFT_OUT
from probe.protocols.shared.checks import check_dataset

pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
TEXTS = [("a cat", "one cat, sleeping"), ("a dog",), ()]


def encoded(value):
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def images(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(3):
        (folder / f"{i}.png").write_bytes(encoded(i))


def shard(path, texts, first=0, kind_of_text="txt", values=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i, of_row in enumerate(texts, first):
            text = of_row if isinstance(of_row, bytes) else "\n".join(of_row).encode()
            for kind, content in (("png", encoded(values[i] if values else i)), (kind_of_text, text)):
                entry = tarfile.TarInfo(f"{i:04d}.{kind}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def table(folder, name, texts, column=None):
    folder.mkdir(parents=True, exist_ok=True)
    columns = {"image": [{"bytes": encoded(i), "path": None} for i in range(len(texts))]}
    pq.write_table(pa.table({**columns, **(column or {"caption": list(map(list, texts))})}), folder / name)


def check(data, texts=TEXTS):
    assert (data.target, data.class_names, set(data.partitions)) == (CAPTIONS, (), {"test"})
    test = data.partitions["test"]
    assert test.captions == texts
    assert [np.asarray(test[i])[0, 0, 0] for i in range(len(test))] == list(range(len(texts)))
    check_dataset(data)


def test_shards_as_clip_benchmark_writes_them_need_no_word(tmp_path):
    shard(tmp_path / "flickr/test/0.tar", TEXTS[:2])
    shard(tmp_path / "flickr/test/1.tar", TEXTS[2:], first=2)
    (tmp_path / "flickr/test/nshards.txt").write_text("2")
    (tmp_path / "flickr/dataset_type.txt").write_text("retrieval\n")
    data = webdataset.load(str(tmp_path / "flickr"))
    check(data)
    assert data.name == "flickr"
    assert data.partitions["test"].ids == ["0.tar:0000", "0.tar:0001", "1.tar:0002"]


def test_of_several_shards_those_that_test_are_read(tmp_path):
    shard(tmp_path / "train-0.tar", TEXTS)
    (tmp_path / "train-1.tar").write_bytes(b"never opened")
    shard(tmp_path / "val-0.tar", TEXTS)
    data = webdataset.load(str(tmp_path), caption_key="txt")
    check(data)
    assert data.notes[LEFT_OUT] == ["2 training shards, of which none is learnt from"]


def test_shards_of_validation_are_counted_where_others_test_and_test_where_none_do(tmp_path):
    for word in ("train", "val", "test"):
        shard(tmp_path / word / "0.tar", TEXTS)
    left_out = webdataset.load(str(tmp_path), caption_key="txt").notes[LEFT_OUT]
    assert left_out == [f"1 {part} shard, of which none is learnt from" for part in ("training", "validation")]
    pytest.importorskip("webdataset")
    check(webdataset.load(validation=str(tmp_path / "val/0.tar"), caption_key="txt"))
    shard(tmp_path / "val/1.tar", TEXTS)
    left_out = webdataset.load(str(tmp_path), validation="val/0.tar", caption_key="txt").notes[LEFT_OUT]
    assert left_out == ["3 shards in train/, test/, val/ beside those that are read"]


def test_captions_may_be_a_field_of_json(tmp_path):
    with tarfile.open(tmp_path / "test.tar", "w") as archive:
        for i, content in enumerate([b'{"texts": ["a cat", "one cat, sleeping"]}', b'{"texts": "a dog"}']):
            for kind, value in (("png", encoded(i)), ("json", content)):
                entry = tarfile.TarInfo(f"{i}.{kind}")
                entry.size = len(value)
                archive.addfile(entry, io.BytesIO(value))
    check(webdataset.load(str(tmp_path), caption_key="json.texts"), TEXTS[:2])
    with pytest.raises(InputError, match=r"has no field caption, only texts"):
        webdataset.load(str(tmp_path), caption_key="json.caption")


def test_classes_in_folders_of_shards_are_read_too(tmp_path):
    for part in ("train", "test"):
        shard(tmp_path / part / "0.tar", [("cat",), ("dog",)])
    assert webdataset.load(str(tmp_path)).class_names == ("cat", "dog")


def test_a_csv_may_have_a_row_for_each_caption(tmp_path):
    images(tmp_path / "images")
    lines = ["image,caption", "0.png,a cat", "1.png,a dog", '0.png,"one cat, sleeping"', "2.png,"]
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    data = csv.load(str(tmp_path / "captions.csv"), images=str(tmp_path / "images"), caption_columns="caption")
    check(data)
    assert data.name == "captions"


def test_a_csv_may_have_a_column_for_each_caption_and_one_of_partitions(tmp_path):
    images(tmp_path)
    lines = ["file\ttext_0\ttext_1\tsplit", "9.png\tgone\t\ttrain", "0.png\ta cat\tone cat, sleeping\ttest",
             "1.png\ta dog\t \ttest", "2.png\t\t\ttest"]  # fmt: skip
    (tmp_path / "all.tsv").write_text("\n".join(lines))
    data = csv.load(str(tmp_path / "all.tsv"), caption_columns=["text_*"])
    check(data)
    assert data.notes[LEFT_OUT] == ["1 row of train, of which none is learnt from"]


def test_parquet_files_may_have_lists_or_several_columns(tmp_path):
    table(tmp_path / "lists", "test-0.parquet", TEXTS)
    check(parquet.load(str(tmp_path / "lists"), caption_columns="caption"))
    texts = {"t1": ["a cat", "a dog", None], "t2": ["one cat, sleeping", "", " "]}
    table(tmp_path / "columns", "some.parquet", TEXTS, texts)
    table(tmp_path / "columns", "train-0.parquet", TEXTS, texts)
    data = parquet.load(str(tmp_path / "columns/some.parquet"), caption_columns=["t2", "t1"])
    assert data.partitions["test"].captions == [("one cat, sleeping", "a cat"), ("a dog",), ()]


def test_a_set_of_the_library_datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    from probe.datasets import huggingface

    columns = {"image": [{"bytes": encoded(i), "path": None} for i in range(3)], "caption": list(map(list, TEXTS))}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.List(datasets.Value("string"))})
    rows = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"test": rows, "validation": rows}).save_to_disk(str(tmp_path / "set"))
    data = huggingface.load(str(tmp_path / "set"), caption_columns="caption")
    check(data)
    assert data.notes[LEFT_OUT] == ["3 rows of validation, of which none is learnt from"]
    rows.save_to_disk(str(tmp_path / "one"))
    check(huggingface.load(str(tmp_path / "one"), caption_columns=["caption"]))
    datasets.concatenate_datasets([rows, rows]).save_to_disk(str(tmp_path / "twice"))
    merged = huggingface.load(str(tmp_path / "twice"), caption_columns="caption", merge_images=True)
    check(merged, [texts * 2 for texts in TEXTS])


def test_another_caption_or_image_makes_another_dataset(tmp_path):
    prints = set()
    for place, texts in enumerate([TEXTS, TEXTS, [("a cat",), ("one cat, sleeping", "a dog"), ()]]):
        table(tmp_path / str(place), "test-0.parquet", texts)
        prints.add(parquet.load(str(tmp_path / str(place)), caption_columns="caption").fingerprint)
        shard(tmp_path / f"s{place}/test.tar", texts)
        prints.add(webdataset.load(str(tmp_path / f"s{place}"), caption_key="txt").fingerprint)
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"caption_columns": "captions"},
            "has the columns caption, expected captions among them: set dataset.caption_columns to",
        ),
        (
            {"caption_columns": "caption", "label_column": "image"},
            "dataset.label_column is given with dataset.cap",
        ),
        (
            {"caption_columns": "caption", "ordered": True},
            "dataset.ordered is given with dataset.captio",
        ),
        ({"caption_columns": "image"}, "has the columns caption, expected image among them"),
    ],
)
def test_what_is_no_set_of_captions_is_refused(options, text, tmp_path):
    table(tmp_path, "test-0.parquet", TEXTS)
    with pytest.raises(InputError, match=text):
        parquet.load(str(tmp_path), **options)


def test_other_things_than_texts_are_refused_with_their_place(tmp_path):
    table(tmp_path, "test-0.parquet", TEXTS, {"caption": [1, 2, 3]})
    with pytest.raises(InputError, match=r"column caption, row 0 of test, holds '1' \(int\), expected a text or"):
        parquet.load(str(tmp_path), caption_columns="caption")
    assert texts_in(None, "x") == ()


def test_shards_without_captions_and_files_that_are_not_there_are_refused(tmp_path):
    shard(tmp_path / "test.tar", TEXTS)
    with pytest.raises(InputError, match=r"has no text file, only png, txt: set dataset.caption_key to an extension"):
        webdataset.load(str(tmp_path), caption_key="text")
    with pytest.raises(InputError, match=r"dataset.class_names is given with dataset.caption_key"):
        webdataset.load(str(tmp_path), caption_key="txt", class_names=["a", "b"])
    (tmp_path / "t.csv").write_text("image,caption\n0.png,a cat\n")
    with pytest.raises(InputError, match=r"1 image files are missing, the first is 0.png .*: set dataset.images"):
        csv.load(str(tmp_path / "t.csv"), caption_columns="caption")
    (tmp_path / "u.csv").write_text("x,caption\n0.png,a cat\n")
    with pytest.raises(InputError, match=r"has the columns x, expected file or .* with image files: set dataset.file"):
        csv.load(str(tmp_path / "u.csv"), caption_columns="caption")


def test_a_line_ends_where_lines_end_and_a_text_of_json_is_one_caption(tmp_path):
    odd = "one\u2028line", "another\u0085\x0c\x0bone", "a\rthird"
    shard(tmp_path / "lines/test.tar", ["\n".join(odd).encode(), b"a cat\r\na dog\r\n"])
    assert webdataset.load(str(tmp_path / "lines"), caption_key="txt").partitions["test"].captions == [
        odd, ("a cat", "a dog"),
    ]  # fmt: skip
    shard(tmp_path / "json/test.tar", [b'{"caption": "one\\ntext"}'], kind_of_text="json")
    data = webdataset.load(str(tmp_path / "json"), caption_key="json.caption")
    assert data.partitions["test"].captions == [("one\ntext",)]


@pytest.mark.parametrize(
    ("content", "key", "text"),
    [
        (
            b'{"a": "x"}',
            "json",
            "holds .*dict.*: set dataset.caption_key to the extension of the captions, or to json.<",
        ),
        (b'{"a": "x"}', "json.b", "has no field b, only a: set dataset.caption_key=json.<field>"),
        (b'"x', "json", r"is no text or no JSON .*: set dataset.caption_key to the captions"),
        (b"[" * 200_000, "json", "is nested too deeply.*: set dataset.caption_key"),
        (b'"\\ud83d"', "json", r"the json file of 0000 holds '\\ud83d' with half of a surrogate pair"),
        (b"7", "json", r"holds '7' \(int\), expected a text or a list of texts: set dataset.caption_key"),
    ],
)
def test_what_is_wrong_in_shards_is_said_of_the_parameter_that_mends_it(content, key, text, tmp_path):
    shard(tmp_path / "test.tar", [content], kind_of_text="json")
    with pytest.raises(InputError, match=text):
        webdataset.load(str(tmp_path), caption_key=key)


def test_shards_that_say_that_they_have_captions_are_read_by_labels_all_the_same(tmp_path):
    shard(tmp_path / "train.tar", [b"cat", b"dog"], kind_of_text="cls")
    (tmp_path / "dataset_type.txt").write_bytes("retrieval".encode("utf-8-sig"))
    with pytest.raises(
        InputError, match=r"class_names is given, and dataset_type.txt .*: set dataset.label_key to .* cl"
    ):
        webdataset.load(str(tmp_path), class_names=["cat", "dog"])
    labelled = webdataset.load(str(tmp_path), class_names=["cat", "dog"], label_key="cls")
    (tmp_path / "dataset_type.txt").write_bytes(b"\xff\xfe\xfa")
    assert webdataset.load(str(tmp_path)).fingerprint == labelled.fingerprint


def test_a_name_is_first_taken_as_it_stands_and_a_pattern_takes_neither_files_nor_partitions(tmp_path):
    columns = {"caption[en]": ["a cat", "a dog", ""], "captione": ["x", "y", "z"]}
    table(tmp_path / "rows", "test-0.parquet", TEXTS, columns)
    data = parquet.load(str(tmp_path / "rows"), caption_columns="caption[en]")
    assert data.partitions["test"].captions == [("a cat",), ("a dog",), ()]
    images(tmp_path)
    lines = ["file,split,caption,other", "0.png,test,a cat,one cat", "1.png,test,a dog,"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    check(csv.load(str(tmp_path / "t.csv"), caption_columns="*"), [("a cat", "one cat"), ("a dog",)])


def test_rows_of_one_image_are_one_where_that_is_asked_for(tmp_path):
    rows = [0, 1, 0, 2, 0]
    shard(tmp_path / "shards/test.tar", [(f"text {i}",) for i in range(5)], values=rows)
    pictures = [{"bytes": encoded(value), "path": None} for value in rows]
    (tmp_path / "rows").mkdir()
    written = pa.table({"image": pictures, "caption": [f"text {i}" for i in range(5)]})
    pq.write_table(written, tmp_path / "rows/test-0.parquet")
    readers = {
        parquet.load: {"path": str(tmp_path / "rows"), "caption_columns": "caption"},
        webdataset.load: {"path": str(tmp_path / "shards"), "caption_key": "txt"},
    }
    for load, options in readers.items():
        apart, merged = load(**options), load(**options, merge_images=True)
        check(merged, [("text 0", "text 2", "text 4"), ("text 1",), ("text 3",)])
        ids = apart.partitions["test"].ids
        assert list(merged.partitions["test"].ids) == [ids[0], ids[1], ids[3]]
        assert apart.fingerprint != merged.fingerprint
        assert notes_of_copies(apart)[0].startswith("3 of 5 rows have the content of another row")
        assert "set dataset.merge_images=true" in notes_of_copies(apart)[0]
        assert not notes_of_copies(merged)


def test_rows_to_merge_want_captions(tmp_path):
    shard(tmp_path / "train.tar", [b"cat", b"dog"], kind_of_text="cls")
    with pytest.raises(InputError, match=r"merge_images is given without captions, expected dataset.caption_key"):
        webdataset.load(str(tmp_path), merge_images=True)
    table(tmp_path / "rows", "test-0.parquet", TEXTS)
    table(tmp_path / "rows", "train-0.parquet", TEXTS)
    with pytest.raises(InputError, match=r"expected dataset.caption_columns beside it: leave it out"):
        parquet.load(str(tmp_path / "rows"), merge_images=True)
