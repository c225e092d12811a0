import itertools
import unicodedata

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
    with pytest.raises(InputError, match="train has 1 label out of range, the first is -1 in row 1"):
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
        (["split,label,file", "test,a,pictures/0.png"], {}, r"has test, expected train: give train.csv and test.csv"),
        (
            ["label,file", "a,pictures/0.png"],
            {"partition_column": "part"},
            r"columns label, file, expected part with partitions: set dataset\.partition_column",
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
            r"test has 1 row with labels in .*t\.csv that are none of the 2 classes of train \(c\)",
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
    with pytest.raises(
        InputError, match=r"columns split, file, labels, expected bird with the classes: set dataset\.label_column"
    ):
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


def test_a_table_without_partitions_is_train(root):
    lines = ["file,label", *(f"pictures/{i}.png,{'ab'[i % 2]}" for i in range(4))]
    data = load(table(root, "t.csv", lines))
    assert list(data.partitions) == ["train"]
    assert data.partitions["train"].labels.tolist() == [0, 1, 0, 1]


def test_partitions_are_found_by_what_the_column_holds(root):
    lines = ["file,label,usage", *(f"pictures/{i}.png,{'ab'[i % 2]},{'train' if i < 2 else 'Test'}" for i in range(4))]
    assert load(table(root, "t.csv", lines)).partitions["test"].ids == ["pictures/2.png", "pictures/3.png"]


def test_rows_of_no_partition_are_counted(root):
    words = ["train", "train", "test", "hidden", "hidden", ""]
    lines = ["file,label,split", *(f"pictures/{i}.png,{'ab'[i % 2]},{word}" for i, word in enumerate(words))]
    data = load(table(root, "t.csv", lines))
    assert data.notes["left_out"] == ["1 row of t.csv whose split is ''", "2 rows of t.csv whose split is 'hidden'"]
    table(root, "train.csv", lines[:3])
    table(root, "labels.csv", lines[:2])
    assert load(str(root)).notes["left_out"] == ["2 files named for no partition (labels.csv, t.csv)"]
    table(root, "training.tsv", lines[:3])
    with pytest.raises(InputError, match=r"has train\.csv and training\.tsv, expected one of them: remove the rest"):
        load(str(root))


def test_the_file_column_is_the_one_that_leads_to_files(root):
    lines = ["id,path,label,split"]
    lines += [f"{7 * i},pictures/{i}.png,{'ab'[i % 2]},{'train' if i < 2 else 'test'}" for i in range(4)]
    assert load(table(root, "t.csv", lines)).partitions["train"].ids == ["pictures/0.png", "pictures/1.png"]
    both = ["path,image,label", "pictures/0.png,pictures/1.png,a", "pictures/2.png,pictures/3.png,b"]
    path = table(root, "b.csv", both)
    with pytest.raises(InputError, match=r"2 columns that may hold image files \(path, image\).*dataset\.file_column"):
        load(path)
    assert load(path, file_column="image").partitions["train"].ids == ["pictures/1.png", "pictures/3.png"]


def test_the_column_that_train_has_is_the_column_of_all_tables(root):
    table(root, "train.csv", ["file,label", "pictures/0.png,a", "pictures/1.png,b"])
    table(root, "test.csv", ["file,class", "pictures/2.png,b"])
    with pytest.raises(InputError, match=r"test\.csv has the columns file, class, expected label, as train has"):
        load(str(root))


@pytest.mark.parametrize(("stored", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_files_are_found_whichever_way_their_accents_are_stored(tmp_path, stored, written):
    def spelled(text, form):
        return unicodedata.normalize(form, text)

    for i, c in enumerate(("café", "thé")):
        (tmp_path / spelled(c, stored)).mkdir()
        Image.new("L", (2, 2), i).save(tmp_path / spelled(c, stored) / spelled(f"é{i}.png", stored))
    lines = ["file,label", *(f"{spelled(c, written)}/{spelled(f'é{i}.png', written)},{i}"
                             for i, c in enumerate(("café", "thé")))]  # fmt: skip
    data = load(table(tmp_path, "t.csv", lines))
    assert data.partitions["train"].ids[1] == f"{spelled('thé', stored)}/{spelled('é1.png', stored)}"
    assert np.asarray(data.partitions["train"][1])[0, 0] == 1


def test_labels_of_more_digits_than_a_number_has_are_names(root):
    lines = ["file,label", f"pictures/0.png,{'9' * 20}", "pictures/1.png,1", f"pictures/2.png,{'8' * 5000}"]
    assert load(table(root, "t.csv", lines)).class_names == ("1", "8" * 5000, "9" * 20)


def test_labels_from_1_on_are_mapped_on_request(root):
    path = table(root, "t.csv", ["file,label", *(f"pictures/{i}.png,{i % 2 + 1}" for i in range(4))])
    with pytest.raises(InputError, match=r"labels of train are 1, 2, expected 0 to 1.*dataset\.map_labels=true"):
        load(path)
    data = load(path, map_labels=True)
    assert (data.class_names, data.partitions["train"].labels.tolist()) == (("1", "2"), [0, 1, 0, 1])


def test_a_column_per_feature_makes_vectors(tmp_path):
    lines = ["x,y,kind,split", "0.5,1,a,train", "1e3,-2,b,train", "2,3,b,test"]
    data = load(table(tmp_path, "t.csv", lines), label_column="kind")
    np.testing.assert_array_equal(data.partitions["train"].rows, [[0.5, 1], [1000, -2]])
    assert data.partitions["test"].labels.tolist() == [1]
    assert data.partitions["test"][0].tolist() == [2, 3]
    numbered = [f"{i if i else 'id'},{line}" for i, line in enumerate(lines)]
    path = table(tmp_path, "n.csv", numbered)
    with pytest.raises(
        InputError, match=r"no column of images, and beside the labels 'id', .*dataset\.feature_columns"
    ):
        load(path, label_column="kind")
    assert load(path, label_column="kind", feature_columns=["x", "y"]).fingerprint == data.fingerprint
    path = table(tmp_path, "g.csv", [*lines[:3], "2,,b,test"])
    with pytest.raises(InputError, match=r"row 0 of test has '' in column y of .*g\.csv, expected a finite number"):
        load(path, label_column="kind", feature_columns="[xy]")


def test_bare_names_without_an_ending_are_a_matter_of_the_suffix(root):
    path = table(root, "t.csv", ["id,label", "0,a", "1,b"])
    with pytest.raises(InputError, match=r"2 image files are missing, the first is 0 .*or dataset\.suffix"):
        load(path, images=str(root / "pictures"))
    assert load(path, images=str(root / "pictures"), suffix=".png").partitions["train"].ids == ["0.png", "1.png"]


def contract_case(root):
    for part, c, i in itertools.product(("train", "test"), "ab", range(3)):
        (root / part / c).mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 3), 20 * (c == "b") + i).save(root / part / c / f"{i}.png")
    files = sorted(p.relative_to(root) for p in root.rglob("*.png"))
    lines = [f"{p.as_posix()},{p.parts[1]},{p.parts[0]}" for p in files]
    (root / "table.csv").write_text("\n".join(["file,label,split", *lines]))
    return {"path": str(root / "table.csv")}
