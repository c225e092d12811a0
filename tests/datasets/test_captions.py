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
