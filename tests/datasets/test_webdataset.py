import io
import json
import multiprocessing
import os
import pickle
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.datasets.shared.partitions import LEFT_OUT, count_duplicates
from probe.datasets.shared.subsets import limited
from probe.datasets.webdataset import load


def encoded(value, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("L", (3, 3), value).save(buffer, kind)
    return buffer.getvalue()


def shard(path, files, mtime=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), mtime
            archive.addfile(entry, io.BytesIO(content))


def samples(values, labels, key="cls"):
    return [
        file
        for v, label in zip(values, labels, strict=True)
        for file in ((f"s/{v:03d}.png", encoded(v)), (f"s/{v:03d}.{key}", str(label).encode()))
    ]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "pets"
    shard(folder / "train-000000.tar", samples(range(4), [0, 1, 0, 1]))
    shard(folder / "train-000001.tar", samples(range(4, 7), [1, 0, 1]))
    shard(folder / "pets-test-000000.tar", samples(range(100, 103), [0, 1, 1]))
    return folder


def value(partition, row):
    return np.asarray(partition[row])[0, 0]


def test_rows_of_all_shards_in_any_order(root):
    data = load(str(root))
    train = data.partitions["train"]
    assert (data.name, data.class_names) == ("pets", ("0", "1"))
    order = np.random.default_rng(0).permutation(7)
    assert [value(train, int(row)) for row in order] == order.tolist()
    assert train.labels.tolist() == [0, 1, 0, 1, 1, 0, 1]
    assert train.ids[4] == "train-000001.tar:s/004"
    assert value(data.partitions["test"], 2) == 102


def test_braces_name_shards_as_the_library_does(root):
    pytest.importorskip("webdataset")
    data = load(str(root), train="train-{000000..000001}.tar", test=["pets-test-000000.tar"], name="x")
    assert (data.name, len(data.partitions["train"])) == ("x", 7)
    assert data.fingerprint == load(str(root)).fingerprint
    only = load(str(root), train="train-000000.tar", test=str(root / "pets-test-000000.tar"))
    assert len(only.partitions["train"]) == 4
    with pytest.raises(InputError, match=r"1 shards are no files, the first is .*train-000002\.tar"):
        load(str(root), train="train-{000000..000002}.tar", test="pets-test-000000.tar")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the library leaves the shard open
def test_the_library_reads_the_same_samples(root):
    webdataset = pytest.importorskip("webdataset")
    theirs = list(webdataset.WebDataset(str(root / "train-000001.tar"), shardshuffle=False).decode("l8"))
    ours = load(str(root)).partitions["train"]
    assert [sample["cls"] for sample in theirs] == ours.labels[4:].tolist()
    assert [f"train-000001.tar:{sample['__key__']}" for sample in theirs] == ours.ids[4:]
    assert [sample["png"][0, 0] for sample in theirs] == [value(ours, row) for row in (4, 5, 6)]


@pytest.mark.parametrize(
    ("extension", "content", "key"),
    [
        ("txt", lambda c: c, None),
        ("json", lambda c: json.dumps({"label": c, "id": 3}), None),
        ("json", lambda c: json.dumps({"species": c}), "json.species"),
        ("meta.json", lambda c: json.dumps(c), "meta.json"),
    ],
)
def test_labels_may_be_names_in_text_or_json(tmp_path, extension, content, key):
    for part, names in (("train", "dce"), ("val", "ed")):
        files = [(f"{i}.JPG", encoded(i, "JPEG")) for i in range(len(names))]
        files += [(f"{i}.{extension}", content(c).encode()) for i, c in enumerate(names)]
        shard(tmp_path / f"{part}.tar", sorted(files))
    if extension == "meta.json":
        with pytest.raises(InputError, match=r"has the files jpg, meta\.json, expected cls or .*label_key"):
            load(str(tmp_path))
    data = load(str(tmp_path), label_key=key)
    assert data.class_names == ("c", "d", "e")
    assert data.partitions["test"].labels.tolist() == [2, 1]


def test_fingerprint_sees_pixels_labels_and_order_but_no_time(root):
    def fingerprint():
        return load(str(root)).partitions["train"].fingerprint

    seen = [fingerprint()]
    shard(root / "train-000001.tar", samples(range(4, 7), [1, 0, 1]), mtime=99)
    os.utime(root / "train-000001.tar", (1, 1))
    assert fingerprint() == seen[0]
    for values, labels in (([4, 5, 99], [1, 0, 1]), ([4, 5, 6], [1, 0, 0]), ([5, 4, 6], [0, 1, 1])):
        shard(root / "train-000001.tar", samples(values, labels))
        seen.append(fingerprint())
    assert len(set(seen)) == len(seen)


def test_pickled_and_forked_copies_read_the_same_rows(root):
    train = load(str(root)).partitions["train"]
    assert value(train, 0) == 0  # opens a file, which must not travel
    assert value(pickle.loads(pickle.dumps(train)), 6) == 6
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put([int(value(train, i)) for i in range(7)]))
    child.start()
    assert queue.get(timeout=30) == list(range(7))
    child.join()


def test_negative_labels_may_be_ignored_and_classes_named(root):
    shard(root / "train-000002.tar", samples([50], [-1]))
    with pytest.raises(InputError, match="label out of range, the first is -1 in row 7"):
        load(str(root))
    data = load(str(root), ignore_label=-1, class_names=["cat", "dog"])
    assert (data.class_names, len(data.partitions["train"])) == (("cat", "dog"), 7)


@pytest.mark.parametrize(
    ("files", "options", "text"),
    [
        ([("a.png", encoded(0))], {}, "has the files png, expected cls or label"),
        ([("a.cls", b"0")], {}, "sample a of .*has 0 images among cls, expected one"),
        ([("a.png", b"x"), ("a.jpg", b"x"), ("a.cls", b"0")], {}, "has 2 images among png, jpg, cls.*image_key"),
        ([("a.png", b"x"), ("a.cls", b"0"), ("b.png", b"x")], {}, "sample b of .* has no cls file, only png"),
        (
            [("a.png", b"x"), ("a.json", b"{}")],
            {},
            r"json file of a has the fields none, expected json\.label or .*label_key",
        ),
        ([("a.png", b"x"), ("a.cls", b"\xff")], {}, "cls file of a is no text"),
        (
            [("a.png", b"x"), ("a.json", b'{"label": 0, "label": 1}')],
            {},
            "json file of a is .*a field stands there twice",
        ),
        ([("a.png", b"x"), ("a.cls", b"")], {}, "row 0 of train has the label None"),
        ([("a.png", b"x"), ("a.cls", b"0")], {"image_key": "jpg"}, "has 0 images among png, cls"),
    ],
)
def test_unfitting_shards_are_refused(root, files, options, text):
    for old in root.glob("train*"):
        old.unlink()
    shard(root / "train-0.tar", files)
    with pytest.raises(InputError, match=text):
        load(str(root), **options)


def test_damaged_and_missing_shards_are_refused(root, tmp_path):
    whole = (root / "train-000001.tar").read_bytes()
    (root / "train-000001.tar").write_bytes(b"no tar")
    with pytest.raises(InputError, match=r"train-000001\.tar is no readable tar file"):
        load(str(root))
    (root / "train-000001.tar").write_bytes(whole[:700])
    with pytest.raises(InputError, match=r"train-000001\.tar (ends within|is no readable)"):
        load(str(root))
    with pytest.raises(InputError, match=r"none are given: set dataset\.path"):
        load()
    with pytest.raises(InputError, match=r"has pets, expected train-\*\.tar and test-\*\.tar"):
        load(str(tmp_path))


def test_undecodable_images_are_named(root):
    shard(root / "pets-test-000000.tar", [("a.png", b""), ("a.cls", b"0"), ("b.png", encoded(1)[:40]), ("b.cls", b"1")])
    test = load(str(root)).partitions["test"]
    with pytest.raises(InputError, match=r"pets-test-000000\.tar:a \(row 0\) is empty \(0 bytes\)"):
        test[0]
    with pytest.raises(InputError, match=r"pets-test-000000\.tar:b \(row 1\)"):
        test[1]


def test_copies_of_training_images_are_counted(root):
    assert count_duplicates(load(str(root))) == {"test": 0}
    shard(root / "pets-test-000000.tar", samples([5, 100, 101], [0, 1, 1]))
    assert count_duplicates(load(str(root))) == {"test": 1}


def test_images_outside_a_limit_do_not_count(root):
    def limits():
        return limited(load(str(root)), 3).partitions["train"]

    before = limits()
    assert before.ids == ["train-000000.tar:s/000", "train-000000.tar:s/001", "train-000000.tar:s/003"]
    assert value(before, 2) == 3
    shard(root / "train-000001.tar", [("s/004.png", encoded(44)), ("s/004.cls", b"1"), *samples([5, 6], [0, 1])])
    assert limits().fingerprint == before.fingerprint
    shard(root / "train-000000.tar", [*samples([0, 1, 2], [0, 1, 0]), ("s/003.png", encoded(33)), ("s/003.cls", b"1")])
    assert limits().fingerprint != before.fingerprint


def test_without_the_library_only_ranges_are_missing(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset.shardlists", None)
    assert len(load(str(root)).partitions["train"]) == 7
    with pytest.raises(InputError, match=r"ranges of shards need .*pip install 'probe-bench\[webdataset\]'"):
        load(str(root), train="train-{000000..000001}.tar", test="pets-test-000000.tar")


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "a.cls", "a.png", "a.cls", "b.png", "b.cls"],  # neighbours with one key
        ["0.25.png", "0.25.cls", "0.50.png", "0.50.cls"],  # a key ends at the first dot
        ["a.PNG", "a.png", "a.cls"],
    ],
)
def test_no_sample_hides_another_one(root, names):
    for old in root.glob("train*"):
        old.unlink()
    shard(root / "train-0.tar", [(name, encoded(i) if name[-1] in "gG" else b"0") for i, name in enumerate(names)])
    with pytest.raises(
        InputError, match=r"a key ends at the first dot of a name|has the files 25\.cls, 25\.png, 50\.cls"
    ):
        load(str(root))


def test_links_in_shards_and_shards_of_no_partition_are_told(root):
    with tarfile.open(root / "train-000001.tar", "a") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            entry = tarfile.TarInfo("s/x.png")
            entry.type, entry.linkname = kind, "s/004.png"
            archive.addfile(entry)
    shard(root / "extra.tar", samples([50], [0]))
    (root / "train-2.tar.gz").write_bytes(b"")
    data = load(str(root))
    assert len(data.partitions["train"]) == 7
    assert data.notes["left_out"] == [
        "2 files named for no partition (extra.tar, train-2.tar.gz)",
        "2 links in shards",
    ]


def test_shards_without_partitions_are_train(tmp_path):
    shard(tmp_path / "part-0.tar", samples([0, 1], [0, 1]))
    shard(tmp_path / "part-1.tar", samples([2, 3], [1, 0]))
    data = load(str(tmp_path))
    assert list(data.partitions) == ["train"]
    assert data.partitions["train"].labels.tolist() == [0, 1, 1, 0]


def test_a_mask_beside_the_image_is_a_question(root):
    both = [("a.png", encoded(1)), ("a.mask.png", encoded(0)), ("a.cls", b"0")]
    shard(root / "train-000000.tar", both)
    with pytest.raises(InputError, match=r"has 2 images among png, mask\.png, cls.*dataset\.image_key"):
        load(str(root))
    assert value(load(str(root), image_key="png").partitions["train"], 0) == 1
    shard(root / "train-000000.tar", both[1:])  # the only image of the sample, and another kind than those elsewhere
    with pytest.raises(InputError, match=r"images of several kinds \(mask\.png of a, png of s/006\), expected one"):
        load(str(root))


def test_two_files_that_may_hold_labels_are_a_question(tmp_path):
    content = [("a.png", encoded(1)), ("a.txt", b"a photo"), ("a.json", b'{"class": "x", "target": 3}')]
    shard(tmp_path / "train.tar", [*content, ("b.png", encoded(2)), ("b.txt", b"b"), ("b.json", b'{"class": "y"}')])
    with pytest.raises(InputError, match=r"2 files that may hold the classes \(json, txt\).*set dataset\.label_key"):
        load(str(tmp_path))
    with pytest.raises(
        InputError, match=r"json file of a has 2 fields that may hold the classes \(json\.class, json\."
    ):
        load(str(tmp_path), label_key="json")
    assert load(str(tmp_path), label_key="json.class").class_names == ("x", "y")
    with pytest.raises(InputError, match=r"json file of b has no field target, only class"):
        load(str(tmp_path), label_key="json.target")


def test_numbers_in_one_partition_and_names_in_another_are_names(tmp_path):
    shard(tmp_path / "train.tar", samples([0, 1], [1, "x"]))
    shard(tmp_path / "test.tar", samples([2], [1]))
    data = load(str(tmp_path))
    assert (data.class_names, data.partitions["test"].labels.tolist()) == (("1", "x"), [0])


def contract_case(root):
    root.mkdir()
    for part in ("train", "test"):
        with tarfile.open(root / f"{part}-0.tar", "w") as archive:
            for i in range(4):
                buffer = io.BytesIO()
                Image.new("L", (3, 3), i).save(buffer, "PNG")
                for name, content in ((f"{i}.png", buffer.getvalue()), (f"{i}.cls", str(i % 2).encode())):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    return {"path": str(root)}


WITH_FOLDERS = {
    "names that say nothing are train": (["a", "b", "train/old"], {"train": 4}, "1 shard in train/"),
    "no test is taken from a folder": (["train-0", "test/x"], {"train": 2}, "1 shard in test/"),
    "nor a validation": (["a", "val/x"], {"train": 2}, "1 shard in val/"),
    "validation tests": (["train-0", "val-0", "test/x", "test/y"], {"train": 2, "test": 2}, "2 shards in test/"),
}


@pytest.mark.parametrize(("there", "sizes", "told"), WITH_FOLDERS.values(), ids=WITH_FOLDERS)
def test_folders_beside_shards_are_counted_and_not_read(there, sizes, told, tmp_path):
    for place, name in enumerate(there):
        shard(tmp_path / f"{name}.tar", samples(range(2 * place, 2 * place + 2), [0, 1]))
    data = load(str(tmp_path))
    assert {part: len(rows) for part, rows in data.partitions.items()} == sizes
    assert data.partitions["train"].ids[0].startswith(there[0])
    assert data.notes[LEFT_OUT] == [f"{told} beside those that are read"]


def test_shards_that_are_named_are_the_only_ones(tmp_path):
    for place, name in enumerate(("mine/a", "test/x")):
        shard(tmp_path / f"{name}.tar", samples(range(2 * place, 2 * place + 2), [0, 1]))
    data = load(str(tmp_path), train="mine/a.tar")
    assert (set(data.partitions), data.notes) == ({"train"}, {})


def test_folders_give_all_partitions_of_a_root_without_shards_and_hidden_files_are_none(tmp_path):
    for place, name in enumerate(("train/0", "val/0", "test/0")):
        shard(tmp_path / f"{name}.tar", samples(range(2 * place, 2 * place + 2), [0, 1]))
        (tmp_path / f"{name[:-1]}._0.tar").write_bytes(b"of a file system")
    (tmp_path / "._train-0.tar").write_bytes(b"of a file system")
    data = load(str(tmp_path))
    assert [len(data.partitions[part]) for part in ("train", "validation", "test")] == [2, 2, 2]
    assert data.notes == {}
    shard(tmp_path / "validation/0.tar", samples(range(2), [0, 1]))
    with pytest.raises(InputError, match=r"has shards in validation/ and val/, expected one of these folders: remove"):
        load(str(tmp_path))
