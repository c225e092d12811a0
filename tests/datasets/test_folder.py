import os

import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.datasets.folder import load


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, value, value)).save(path)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "my data"
    for i, name in enumerate(["train/cat/b.png", "train/cat/a.PNG", "train/cat/deep/c.png", "train/dog/1.png"]):
        write(folder / name, i)
    for i, name in enumerate(["test/cat/x.png", "test/dog/y.png"]):
        write(folder / name, 100 + i)
    return folder


def test_rows_are_sorted_by_class_and_path(root):
    data = load(str(root))
    train = data.partitions["train"]
    assert data.name == "my data"
    assert data.class_names == ("cat", "dog")
    assert train.ids == ["train/cat/a.PNG", "train/cat/b.png", "train/cat/deep/c.png", "train/dog/1.png"]
    assert train.labels.tolist() == [0, 0, 0, 1]
    assert np.asarray(train[0])[0, 0, 0] == 1
    assert set(data.partitions) == {"train", "test"}


@pytest.mark.parametrize("name", ["val", "validation"])
def test_validation_may_have_either_name(root, name):
    write(root / name / "cat" / "v.png", 7)
    assert load(str(root)).partitions["validation"].ids == [f"{name}/cat/v.png"]


def test_without_test_the_validation_folder_tests(root):
    os.rename(root / "test", root / "val")
    data = load(str(root))
    assert data.partitions["test"].ids == ["val/cat/x.png", "val/dog/y.png"]
    assert "there is no test folder" in data.notes["test"]


def test_labels_and_ids_need_no_decoding(root):
    (root / "train/cat/b.png").write_bytes(b"")
    data = load(str(root), name="mine")
    assert data.name == "mine"
    assert len(data.fingerprint) == 32
    with pytest.raises(InputError, match=r"train/cat/b\.png \(row 1\) is empty \(0 bytes\)"):
        data.partitions["train"][1]


def test_fingerprint_sees_a_pixel_a_name_and_a_class_but_no_time(root):
    def fingerprint():
        return load(str(root)).partitions["train"].fingerprint

    seen = [fingerprint()]
    os.utime(root / "train/cat/b.png", (1, 1))
    assert fingerprint() == seen[0]
    image = Image.open(root / "train/cat/b.png")
    image.putpixel((3, 3), (9, 9, 9))
    image.save(root / "train/cat/b.png")
    seen.append(fingerprint())
    os.rename(root / "train/cat/b.png", root / "train/cat/bb.png")
    seen.append(fingerprint())
    os.rename(root / "train/cat/bb.png", root / "train/dog/bb.png")
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen)


def test_fingerprint_does_not_depend_on_where_the_folder_lies(root, tmp_path):
    before = load(str(root)).fingerprint
    os.rename(root, tmp_path / "élsewhere")
    assert load(str(tmp_path / "élsewhere")).fingerprint == before


def test_hidden_and_foreign_files_are_passed_over(root):
    (root / "train/cat/.DS_Store").write_text("x")
    (root / "train/cat/.hidden.png").write_text("x")
    (root / "train/cat/notes.txt").write_text("x")
    (root / "train/.cache").mkdir()
    assert len(load(str(root)).partitions["train"]) == 4


def test_links_inside_are_followed(root):
    (root / "train/dog/again.png").symlink_to(root / "train/cat/b.png")
    (root / "train/dog/more").symlink_to(root / "train/cat/deep", target_is_directory=True)
    assert load(str(root)).partitions["train"].ids[3:] == [
        "train/dog/1.png",
        "train/dog/again.png",
        "train/dog/more/c.png",
    ]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_out_of_the_tree_are_refused_unless_wanted(root, tmp_path, what):
    write(tmp_path / "outside/o.png", 1)
    target = tmp_path / "outside/o.png" if what == "file" else tmp_path / "outside"
    (root / "train/dog/z.png").symlink_to(target)
    with pytest.raises(InputError, match=r"z\.png is a symbolic link out of.*dataset\.follow_links=true"):
        load(str(root))
    assert len(load(str(root), follow_links=True).partitions["train"]) == 5


def test_broken_links_are_refused(root):
    (root / "train/dog/z.png").symlink_to(root / "nowhere.png")
    with pytest.raises(InputError, match=r"z\.png is a symbolic link to .*nowhere\.png, which does not exist"):
        load(str(root))


def test_link_loops_are_refused(root):
    (root / "train/dog/up").symlink_to(root / "train/dog", target_is_directory=True)
    with pytest.raises(InputError, match="up is a symbolic link to a folder above it"):
        load(str(root))


def test_classes_that_differ_are_refused_with_both_sides(root):
    write(root / "test/bird/1.png", 1)
    os.rename(root / "test/dog", root / "test/Dog")
    expected = r"test has 2 class folders that train lacks \(Dog, bird\); test lacks 1 class folders of train \(dog\)"
    if (root / "test/dog").exists():
        pytest.skip("the file system does not tell Dog from dog")
    with pytest.raises(InputError, match=expected.replace("; test lacks", ".*test lacks")):
        load(str(root))


def test_an_empty_class_is_refused(root):
    (root / "train/elk").mkdir()
    (root / "test/elk").mkdir()
    with pytest.raises(InputError, match=r"train \(4 rows\) has no row of 1 of 3 classes \(elk\)"):
        load(str(root))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (None, "none is given: set dataset.path"),
        ("nowhere", "nowhere is no folder"),
        ("my data/train/dog", "has 1.png, expected folders train/ and test/"),
    ],
)
def test_wrong_folders_are_refused(root, path, text):
    with pytest.raises(InputError, match=text):
        load(path and str(root.parent / path))


def test_loose_images_and_two_validation_folders_are_refused(root):
    write(root / "val/cat/1.png", 1)
    write(root / "validation/cat/1.png", 1)
    with pytest.raises(InputError, match="both validation and val"):
        load(str(root))
    os.rename(root / "validation", root.parent / "away")
    write(root / "train/loose.png", 1)
    with pytest.raises(InputError, match=r"holds 1 image beside its class folders \(loose\.png\)"):
        load(str(root))


def test_a_class_folder_may_be_ignored(root):
    write(root / "train/BACKGROUND/1.png", 1)
    write(root / "test/BACKGROUND/2.png", 1)
    plain = load(str(root), ignore_label="BACKGROUND")
    assert plain.class_names == ("cat", "dog")
    assert len(plain.partitions["train"]) == 4
    with pytest.raises(InputError, match="has no class folder 'background', only BACKGROUND, cat, dog"):
        load(str(root), ignore_label="background")


def test_class_names_come_in_the_order_of_folders_or_behind_them(root, tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("dog Hund\ncat Katze, Hauskatze\nelk Elch\n")
    assert load(str(root), class_names=str(file)).class_names == ("Katze, Hauskatze", "Hund")
    assert load(str(root), class_names=["house cat", "dog"]).class_names == ("house cat", "dog")
    assert load(str(root), class_names=["pet", "pet"]).class_names == ("pet (cat)", "pet (dog)")
    with pytest.raises(InputError, match=r"class_names has 3 names and there are 2 class folders \(cat, dog"):
        load(str(root), class_names=["a", "b", "c"])


def test_imagenet_folders_get_names_for_their_synsets(tmp_path):
    for i, synset in enumerate(["n01440764", "n02012849", "n03126707"]):
        write(tmp_path / "train" / synset / "x.JPEG", i)
        write(tmp_path / "val" / synset / "y.JPEG", 50 + i)
    data = load(str(tmp_path), class_names="imagenet")
    assert data.class_names == ("tench", "crane (n02012849)", "crane (n03126707)")
    assert data.partitions["test"].ids[0] == "val/n01440764/y.JPEG"
    assert load(str(tmp_path)).class_names == ("n01440764", "n02012849", "n03126707")
    write(tmp_path / "train/dog/x.JPEG", 9)
    write(tmp_path / "val/dog/x.JPEG", 9)
    with pytest.raises(InputError, match="1 class folders are no synsets of ImageNet, the first is dog"):
        load(str(tmp_path), class_names="imagenet")


def test_class_folders_without_partitions_are_train(root):
    data = load(str(root / "train"))
    assert list(data.partitions) == ["train"]
    assert data.partitions["train"].ids == ["cat/a.PNG", "cat/b.png", "cat/deep/c.png", "dog/1.png"]
    assert data.partitions["train"].labels.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("name", ["Test", "testing", "tset", "unlabeled"])
def test_a_folder_beside_a_lone_train_is_no_class_and_not_passed_over(root, name):
    os.rename(root / "test", root / name)
    with pytest.raises(InputError, match=rf"has .*{name}.*, expected folders train/ and test/"):
        load(str(root))
    os.rename(root / "train", root / "Train")
    if name in ("Test", "testing"):
        with pytest.raises(InputError, match=r"has .*Train.*, expected folders train/ and test/"):
            load(str(root))


def test_train_alone_is_a_dataset(root):
    os.rename(root / "test", root.parent / "away")
    assert list(load(str(root)).partitions) == ["train"]


def test_what_is_passed_over_is_counted(root):
    for name in ("train/cat/notes.txt", "train/readme", "test/dog/1.HEIC", "test/dog/2.heic", "train/cat/.DS_Store"):
        (root / name).write_text("x")
    (root / "extra").mkdir()
    assert load(str(root)).notes["left_out"] == [
        "4 files that are no image by its extension (2 .heic, 1 .txt, 1 without extension)",
        "1 folders that are no partition (extra)",
    ]


def test_hidden_files_beside_class_folders_are_no_images(root):
    for name in ("train/._cat.jpg", "train/.hidden.png", ".DS_Store", "test/.x.jpeg"):
        (root / name).write_text("x")
    data = load(str(root))
    assert "left_out" not in data.notes
    assert len(data.partitions["train"]) == 4


def test_accents_are_one_name_however_they_are_stored(root):
    apart, composed = "Lo\u0308we", "Löwe"
    write(root / "train" / apart / "1.png", 1)
    write(root / "test" / composed / "1.png", 2)
    data = load(str(root), class_names=["cat Katze", "dog Hund", f"{composed} Lion"])
    assert data.class_names == ("Lion", "Katze", "Hund")
    assert data.partitions["test"].ids[0] == f"test/{composed}/1.png"
    assert data.partitions["test"].labels[0] == 0
    assert load(str(root)).class_names == (apart, "cat", "dog")
    assert load(str(root), ignore_label=composed).class_names == ("cat", "dog")
    write(root / "train" / composed / "2.png", 1)
    with pytest.raises(InputError, match=r"train of .* has two folders called .*\(NFC and NFD\), expected one"):
        load(str(root))


def contract_case(root):
    for part in ("train", "test"):
        for k, c in enumerate("ab"):
            for i in range(3):
                (root / part / c).mkdir(parents=True, exist_ok=True)
                Image.new("L", (3, 3), 20 * k + i).save(root / part / c / f"{i}.png")
    return {"path": str(root)}
