import json

import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.core.targets.captions import CAPTIONS
from probe.datasets.captions import load
from probe.datasets.shared.partitions import LEFT_OUT

TEXTS = [("a cat", "one cat"), ("a dog",), ()]


def images(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(3):
        Image.new("RGB", (3, 3), (i, 0, 0)).save(folder / f"{i}.png")


def coco():
    files = [{"id": 10 + i, "file_name": f"{i}.png"} for i in range(3)]
    pairs = [(11, " a dog"), (10, "a cat"), (10, "one cat\n")]
    return {"info": {}, "images": files, "annotations": [{"id": i, "image_id": o, "caption": t}
                                                         for i, (o, t) in enumerate(pairs)]}  # fmt: skip


def karpathy(below=None):
    found = [{"filename": f"{i}.png", "split": "test", "sentences": [{"raw": text, "tokens": []} for text in texts],
              **({"filepath": below} if below else {})} for i, texts in enumerate(TEXTS)]  # fmt: skip
    return {"dataset": "x", "images": [*found, {"filename": "9.png", "split": "restval", "sentences": []}]}


LISTS = {
    "lists": [{"image": f"{i}.png", "caption": list(texts)} for i, texts in enumerate(TEXTS)],
    "rows": [{"image": f"{i}.png", "caption": text} for i, texts in enumerate(TEXTS) for text in texts or ("",)],
}


def written(root, content, below="."):
    images(root / below)
    (root / "captions.json").write_text(json.dumps(content))
    return str(root / "captions.json")


def contract_case(root):
    """Three images with captions in COCO's layout."""
    return {"path": written(root, coco())}


@pytest.mark.parametrize("content", [coco(), karpathy(), *LISTS.values()], ids=["coco", "karpathy", *LISTS])
def test_every_layout_gives_the_images_with_their_captions(content, tmp_path):
    data = load(written(tmp_path, content))
    test = data.partitions["test"]
    assert (data.target, set(data.partitions), data.rows) == (CAPTIONS, {"test"}, "images")
    assert test.captions == TEXTS
    assert test.labels.tolist() == [2, 1, 0]
    assert test.ids == ["0.png", "1.png", "2.png"]
    assert [np.asarray(test[i])[0, 0, 0] for i in range(3)] == [0, 1, 2]


def test_a_split_of_karpathy_is_read_and_the_others_are_counted(tmp_path):
    data = load(written(tmp_path, karpathy("val2014"), "val2014"))
    assert data.name == "captions-test"
    assert data.partitions["test"].ids[0] == "val2014/0.png"
    assert data.notes[LEFT_OUT] == ["1 row of split restval"]
    with pytest.raises(InputError, match=r"has the splits test, restval, expected val: set dataset.split"):
        load(str(tmp_path / "captions.json"), split="val")


def test_images_may_lie_elsewhere_and_the_path_be_a_folder(tmp_path):
    written(tmp_path / "annotations", coco(), "../photos")
    data = load(str(tmp_path / "annotations"), name="coco", images=str(tmp_path / "photos"))
    assert (data.name, data.partitions["test"].captions) == ("coco", TEXTS)
    (tmp_path / "annotations/other.json").write_text("[]")
    with pytest.raises(InputError, match=r"has captions.json, other.json, expected one JSON file of captions: set"):
        load(str(tmp_path / "annotations"))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"a": 1}, r"has the keys a, expected COCO's .* Karpathy's .* or \[\{\"image\", \"caption\"\}\]: give such"),
        (
            {**coco(), "annotations": [{"image_id": 7, "caption": "x"}]},
            "has a caption of image 7, which is none of",
        ),
        ({**coco(), "annotations": [{"image_id": 10}]}, "holds an object with image_id without caption, expected"),
        ([3], "holds 3 without image, expected"),
        ("x", "is str, expected"),
        ([{"image": "0.png", "caption": 3}], r"image 0.png of captions.json holds '3' \(int\), expected a text"),
        (
            [{"image": "7.png", "caption": "x"}],
            "lacks 1 image file of .*, the first is 7.png, expected all of them",
        ),
        ([{"image": "0.png", "caption": " "}], r"test \(1 row\) has no caption; expected a partition test"),
    ],
)
def test_other_content_is_refused(content, text, tmp_path):
    with pytest.raises(InputError, match=text):
        load(written(tmp_path, content))


def test_a_split_that_no_layout_names_a_file_that_is_none_and_no_path_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"names no splits, expected none of dataset.split=test: leave it out"):
        load(written(tmp_path, coco()), split="test")
    with pytest.raises(InputError, match=r"is no file, expected a JSON file of captions: give its path"):
        load(str(tmp_path / "nothing.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        load(str(tmp_path / "broken.json"))
    with pytest.raises(InputError, match=r"dataset=captions needs a JSON file, none is given: set dataset.path"):
        load()


PLACES = {
    "beside": [{"image": "../outside.png", "caption": "x"}],
    "by a way round": [{"image": "a/../../outside.png", "caption": "x"}],
    "absolute": [{"image": "/etc/outside.png", "caption": "x"}],
    "of COCO": {**coco(), "images": [{"id": i, "file_name": "../outside.png"} for i in (10, 11)]},
    "of Karpathy": karpathy("../photos"),
}


@pytest.mark.parametrize("content", PLACES.values(), ids=PLACES)
def test_names_that_leave_the_folder_of_the_images_are_refused(content, tmp_path):
    images(tmp_path / "photos")
    Image.new("RGB", (3, 3)).save(tmp_path / "outside.png")
    with pytest.raises(
        InputError, match=r"names the image '.*', expected names below .*: set dataset.images to the fo"
    ):
        load(written(tmp_path / "set", content))


def test_names_relative_to_a_folder_above_are_read_once_it_is_named(tmp_path):
    images(tmp_path / "photos")
    data = load(written(tmp_path / "set", karpathy("photos")), images=str(tmp_path))
    assert data.partitions["test"].ids[0] == "photos/0.png"


def test_two_spellings_of_a_file_are_one_row(tmp_path):
    names = ("0.png", "./0.png", "a/../0.png")
    data = load(written(tmp_path, [{"image": name, "caption": f"text {i}"} for i, name in enumerate(names)]))
    assert data.partitions["test"].captions == [("text 0", "text 1", "text 2")]


def test_images_of_one_name_in_folders_that_are_not_there_are_not_taken_for_one(tmp_path):
    entries = [{"filename": "0.png", "filepath": below, "split": "test", "sentences": [{"raw": f"of {below}"}]}
               for below in ("A", "A", "B")]  # fmt: skip
    path = written(tmp_path, {"images": entries})
    with pytest.raises(InputError, match=r"images 0.png in the folders A and B, of which .* has neither: set "):
        load(path)
    images(tmp_path / "photos/A")
    images(tmp_path / "photos/B")
    data = load(path, images=str(tmp_path / "photos"))
    assert data.partitions["test"].ids == ["A/0.png", "B/0.png"]
    assert data.partitions["test"].captions == [("of A", "of A"), ("of B",)]


def of_karpathy(**changed):
    return {"images": [{"filename": "0.png", "split": "test", "sentences": [{"raw": "x"}], **changed}]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            {**coco(), "images": [{"id": 10, "file_name": f"{i}.png"} for i in range(3)]},
            "several images with the id 10",
        ),
        ({**coco(), "images": None}, "has images None, expected a list as in COCO's"),
        ({**coco(), "annotations": None}, "has annotations None, expected a list"),
        ({**coco(), "images": [{"id": [1], "file_name": "0.png"}]}, r"has id \[1\], expected a text or a number"),
        ({**coco(), "annotations": [{"image_id": {}, "caption": "x"}]}, r"has image_id \{\}, expected a text or"),
        (of_karpathy(sentences=None), "has sentences None, expected a list"),
        (of_karpathy(split=["test"]), r"has split \['test'\], expected a text"),
        ([{"image": None, "caption": "x"}], "has image None, expected a text"),
        ([{"image": "x" * 5000, "caption": "x"}], r"expected the name of a file \(OSError\): mend the file"),
        ([{"image": "\0", "caption": "x"}], r"expected the name of a file \(ValueError\)"),
        ([{"image": "\ud83d.png", "caption": "x"}], r"expected the name of a file \(UnicodeEncodeError\)"),
        ([{"image": "0.png", "caption": "a \ud83d cat"}], r"holds 'a \\ud83d cat' with half of a surrogate pair"),
        ([{"image": "0.png", "caption": 3}], r"expected a text or a list of texts: mend the file"),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(content, text, tmp_path):
    with pytest.raises(InputError, match=text):
        load(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[" * 200_000, "it is nested too deeply"),
        ('[{"image": "0.png", "caption": "a cat", "caption": "a dog"}]', "a field stands there twice"),
    ],
)
def test_what_json_would_take_or_die_of_is_refused(content, text, tmp_path):
    (tmp_path / "captions.json").write_text(content)
    with pytest.raises(InputError, match=f"is no JSON .{text}"):
        load(str(tmp_path / "captions.json"))
