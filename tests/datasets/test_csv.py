import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.datasets.csv import load


@pytest.fixture
def root(tmp_path):
    for i in range(6):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("L", (2, 2), i).save(tmp_path / f"pictures/{i}.png")
    return tmp_path


def table(root, name, lines):
    (root / name).write_text("\n".join(lines), encoding="utf-8")
    return str(root / name)


def test_one_table_with_a_column_of_partitions(root):
    lines = [
        "split,label,file",
        *(
            f"{s},{c},pictures/{i}.png"
            for i, (s, c) in enumerate(zip(["train", "Test", "val", "train", "test", "other"], "bababa", strict=True))
        ),
    ]
    data = load(table(root, "pets.csv", lines))
    assert (data.name, data.class_names) == ("pets", ("a", "b"))
    assert {part: p.ids for part, p in data.partitions.items()} == {
        "train": ["pictures/0.png", "pictures/3.png"],
        "test": ["pictures/1.png", "pictures/4.png"],
        "validation": ["pictures/2.png"],
    }
    assert data.partitions["train"].labels.tolist() == [1, 0]
    assert np.asarray(data.partitions["test"][1])[0, 0] == 4


def test_a_folder_of_tables_with_tabs_numbers_and_bare_names(root):
    table(root, "train.tsv", ["id\tcategory", "0\t1", "1\t0", "2\t1"])
    table(root, "test.csv", ["id,category", "3,0"])
    data = load(str(root), images=str(root / "pictures"), suffix=".png", class_names=["no", "yes"], name="x")
    assert (data.name, data.class_names) == ("x", ("no", "yes"))
    assert data.partitions["train"].labels.tolist() == [1, 0, 1]
    assert data.partitions["test"].ids == ["3.png"]


def test_a_negative_label_is_a_number_and_may_be_ignored(root):
    lines = ["split,label,file", *(f"{s},{c},pictures/{i}.png" for i, (s, c) in enumerate(
        [("train", 0), ("train", -1), ("train", 1), ("test", 1), ("test", -1)]
    ))]  # fmt: skip
    path = table(root, "t.csv", lines)
    with pytest.raises(InputError, match="train has 1 labels out of range, the first is -1 in row 1"):
        load(path)
    data = load(path, ignore_label=-1)
    assert data.partitions["train"].ids == ["pictures/0.png", "pictures/2.png"]
    assert data.partitions["test"].labels.tolist() == [1]


def test_fingerprint_sees_labels_pixels_and_order(root):
    lines = ["split,label,file", "train,a,pictures/0.png", "train,b,pictures/1.png", "test,a,pictures/2.png"]

    def fingerprint(lines=lines):
        return load(table(root, "t.csv", lines)).fingerprint

    seen = {fingerprint(), fingerprint([lines[0], lines[2], lines[1], lines[3]])}
    seen.add(fingerprint([lines[0], "train,b,pictures/0.png", "train,a,pictures/1.png", lines[3]]))
    Image.new("L", (2, 2), 77).save(root / "pictures/0.png")
    seen.add(fingerprint())
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("lines", "options", "text"),
    [
        (["split,label,file", "train,a,pictures/0.png"], {}, r"has train, expected train and test"),
        (
            ["label,file", "a,pictures/0.png"],
            {},
            r"columns label, file, expected partition or split .*partition_column",
        ),
        (["split,kind,file", "train,a,x", "test,a,x"], {}, r"expected label or .*dataset\.label_column"),
        (["split,label,file"], {}, "has no rows"),
        (["split,label,file", "train,a,b,c"], {}, "row 0 of .* has more values than the header"),
        (
            ["split,label,file", "train,a,x.png", "test,b,y.png"],
            {},
            r"2 image files are missing, the first is x\.png \(row 0 of train\)",
        ),
        (
            ["split,label,file", "train,,pictures/0.png", "test,b,pictures/0.png"],
            {},
            r"row 0 of train has the label None",
        ),
        (
            ["split,label,file", "train,a,pictures/0.png", "train,b,pictures/1.png", "test,c,pictures/0.png"],
            {},
            r"1 rows of test have labels in .*t\.csv that are none of the 2 classes of train \(c\)",
        ),
        (["split,label,file"], {"path": "nowhere.csv"}, r"nowhere\.csv is no file"),
        (["split,label,file"], {"path": None}, r"none is given: set dataset\.path"),
    ],
)
def test_unfitting_tables_are_refused(root, lines, options, text):
    with pytest.raises(InputError, match=text):
        load(**{"path": table(root, "t.csv", lines), **options})


def test_several_labels_come_as_columns_or_divided_by_a_separator(root):
    lines = ["split,file,cat,dog", "train,pictures/0.png,1,0", "train,pictures/1.png,1,1", "train,pictures/2.png,0,0"]
    columns = load(table(root, "c.csv", [*lines, "test,pictures/3.png,0,1"]), label_column=["cat", "dog"])
    assert columns.class_names == ("cat", "dog")
    assert columns.partitions["train"].labels.tolist() == [[1, 0], [1, 1], [0, 0]]
    lines = ["split,file,labels", "train,pictures/0.png,cat", "train,pictures/1.png,dog | cat", "train,pictures/2.png,"]
    path = table(root, "l.csv", [*lines, "test,pictures/3.png,dog"])
    divided = load(path, separator="|")
    assert divided.class_names == ("cat", "dog")
    assert divided.partitions["train"].labels.tolist() == [[1, 0], [1, 1], [0, 0]]
    assert divided.fingerprint == columns.fingerprint
    with pytest.raises(InputError, match="row 2 of train has the label None"):
        load(path)
    with pytest.raises(InputError, match=r"columns split, file, labels, expected bird: set dataset\.label_column"):
        load(path, label_column=["labels", "bird"])


def test_columns_say_more_of_each_row_and_change_no_fingerprint(root):
    lines = ["file,label,room,grade", *(f"pictures/{i}.png,{'ab'[i % 2]},r{i // 2},{i}.5" for i in range(4))]
    table(root, "train.csv", lines)
    table(root, "test.csv", ["file,label,room", "pictures/4.png,a,r9", "pictures/5.png,b,r9"])
    plain, known = load(str(root)), load(str(root), session_column="room", hardness_column="grade", group_column="room")
    assert known.partitions["train"].sessions.tolist() == known.partitions["train"].groups.tolist() == [
        "r0", "r0", "r1", "r1",
    ]  # fmt: skip
    assert known.partitions["train"].hardness.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert known.partitions["test"].sessions.tolist() == ["r9", "r9"]
    assert not hasattr(known.partitions["test"], "hardness")
    assert known.fingerprint == plain.fingerprint
    with pytest.raises(InputError, match=r"has the columns file, label, room, grade, expected day: name one that it"):
        load(str(root), session_column="day")
    with pytest.raises(InputError, match=r"hardness of row 0 of train is 'r0', expected a finite number, larger where"):
        load(str(root), hardness_column="room")
