import json
import pickle

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from probe.core.errors import InputError
from probe.datasets.torchvision import SETS, load


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 3), (value,) * 3).save(path)


def value(row):
    return np.asarray(row)[0, 0].tolist()


def test_every_class_is_in_torchvision():
    assert all(hasattr(torchvision.datasets, class_name) for class_name, _ in SETS.values())


def test_cifar10_from_its_own_files(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for i, name in enumerate(names):
        data = np.full((10, 3072), i, dtype=np.uint8)
        data[:, :1024] = 200  # the red plane comes first
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": list(range(10))}))
    classes = [f"c{k}" for k in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": classes}))
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    data = load("cifar10", str(tmp_path))
    assert data.class_names == tuple(classes)
    assert (len(data.partitions["train"]), len(data.partitions["test"])) == (50, 10)
    assert value(data.partitions["train"][30]) == [200, 3, 3]


def test_food101_from_its_own_files(tmp_path):
    root = tmp_path / "food-101"
    for k, c in enumerate(("apple_pie", "pizza")):
        for i in range(3):
            write(root / f"images/{c}/{i}.jpg", 50 * k + 10 * i)
    (root / "meta").mkdir()
    (root / "meta/train.json").write_text(json.dumps({c: [f"{c}/0", f"{c}/1"] for c in ("apple_pie", "pizza")}))
    (root / "meta/test.json").write_text(json.dumps({c: [f"{c}/2"] for c in ("apple_pie", "pizza")}))
    data = load("food101", str(tmp_path))
    assert data.class_names == ("apple_pie", "pizza")
    test = data.partitions["test"]
    assert test.ids == ["food-101/images/apple_pie/2.jpg", "food-101/images/pizza/2.jpg"]
    assert test.labels.tolist() == [0, 1]
    assert value(test[1]) == pytest.approx([70, 70, 70], abs=2)


def test_dtd_has_its_own_validation_rows(tmp_path):
    root = tmp_path / "dtd/dtd"
    for c in ("banded", "dotted"):
        for i in range(3):
            write(root / f"images/{c}/{c}_{i}.jpg", 10 * i)
    (root / "labels").mkdir()
    for i, part in enumerate(("train", "val", "test")):
        (root / f"labels/{part}1.txt").write_text(f"banded/banded_{i}.jpg\ndotted/dotted_{i}.jpg\n")
    data = load("dtd", str(tmp_path))
    assert data.class_names == ("banded", "dotted")
    assert data.partitions["validation"].ids[1] == "dtd/dtd/images/dotted/dotted_1.jpg"


def test_eurosat_is_cut_by_file_names_alone(tmp_path):
    for c in ("Forest", "River"):
        for i in range(10):
            write(tmp_path / f"eurosat/2750/{c}/{c}_{i}.jpg", i)
    data = load("eurosat", str(tmp_path), test_fraction=0.3)
    train, test = (set(data.partitions[part].ids) for part in ("train", "test"))
    assert (len(train), len(test), train & test) == (14, 6, set())
    before = data.fingerprint
    write(tmp_path / "eurosat/2750/River/River_3.jpg", 99)
    again = load("eurosat", str(tmp_path), test_fraction=0.3)
    assert set(again.partitions["test"].ids) == test
    assert again.fingerprint != before


def test_missing_sets_say_what_to_run(tmp_path):
    expected = r"no whole Flowers102 in .*dataset\.download=true, which runs torchvision\.datasets\.Flowers102"
    with pytest.raises(InputError, match=expected):
        load("flowers102", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "root", "text"),
    [
        ("imagenet21k", "x", "'imagenet21k' is unknown, expected one of caltech101, cifar10, cifar100"),
        ("cifar10", None, r"needs a folder, none is given: set dataset\.root"),
    ],
)
def test_impossible_options_are_refused(name, root, text):
    with pytest.raises(InputError, match=text):
        load(name, root)


def test_parts_that_number_their_classes_differently_are_refused(tmp_path):
    for part, classes in (("train", "abc"), ("valid", "abc"), ("test", "bc")):
        for k, c in enumerate(classes):
            write(tmp_path / "country211" / part / c / "1.jpg", k)
    with pytest.raises(InputError, match=r"parts of Country211 in .* name other classes \(3 of train, 2 of test"):
        load("country211", str(tmp_path))
    write(tmp_path / "country211/test/a/1.jpg", 9)
    assert load("country211", str(tmp_path)).class_names == ("a", "b", "c")


def contract_case(root):
    for c in "ab":
        (root / "eurosat" / "2750" / c).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (3, 3), i).save(root / "eurosat" / "2750" / c / f"{i}.jpg")
    return {"name": "eurosat", "root": str(root)}
