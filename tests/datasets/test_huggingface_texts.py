"""Sets of texts of the library `datasets`: the same rows as dataset=texts reads, shortened alike."""

import json

import pytest

from probe.core.errors import InputError
from probe.core.texts import Text
from probe.datasets.shared.partitions import count_duplicates
from probe.datasets.texts import load as load_texts

datasets = pytest.importorskip("datasets")

from probe.datasets.huggingface import load  # noqa: E402

TEXTS = ["The cat sat, and the cat ate.", "A dog is not a cat!", "Rain. Rain again, the whole day", "the sun"]
LABELS = ["pets", "pets", "weather", "weather"]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def saved(folder, columns, test=None):
    splits = {"train": datasets.Dataset.from_dict(columns)}
    if test is not None:
        splits["test"] = datasets.Dataset.from_dict(test)
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return str(folder)


@pytest.fixture
def path(tmp_path):
    columns = {"id": ["d1", "d1", "d2", "d3"], "text": TEXTS, "label": LABELS}
    return saved(tmp_path / "notes", columns, {"id": ["d4"], "text": ["  the SUN"], "label": ["weather"]})


def test_rows_are_texts_and_copies_are_found_among_them(path):
    data = load(path)
    assert (data.rows, data.class_names) == ("texts", ("pets", "weather"))
    assert [data.partitions["train"][i] for i in range(4)] == TEXTS
    assert data.partitions["train"].labels.tolist() == [0, 0, 1, 1]
    assert count_duplicates(data) == {"test": 1}
    assert load(path, text_column="id", label_column="label").partitions["train"][0] == "d1"
    cut = load(path, splits={"train": "train"}, test_fraction=0.5, group_column="id")
    assert sorted([*cut.partitions["train"].groups, *cut.partitions["test"].groups]) == ["d1", "d1", "d2", "d3"]


@pytest.mark.parametrize("shorten", [[], ["stop"], ["recurring", "head_tail:2"], ["punctuation"]])
def test_they_are_shortened_as_those_of_a_table(path, tmp_path, shorten):
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {"shorten": shorten, **({"keep_words": ["not"]} if shorten == ["stop"] else {})}
    ours = load(path, splits={"train": "train"}, **told)
    table = load_texts(str(tmp_path / "notes.jsonl"), **told)
    assert ours.partitions["train"].rows == table.partitions["train"].rows
    assert ours.name == table.name
    words = [part for part in ours.notes.get("left_out", []) if "words" in part]
    assert words == table.notes.get("left_out", [])
    assert bool(words) == bool(shorten)
    assert (ours.fingerprint == load(path, splits={"train": "train"}).fingerprint) == (not shorten)


def test_pairs_and_spans_are_columns_too(tmp_path):
    columns = {"premise": ["It rains", "It shines"], "hypothesis": ["wet", "dry"], "begin": [3, 3], "end": [8, 9],
               "label": [0, 1]}  # fmt: skip
    path = saved(tmp_path / "pairs", columns)
    data = load(path, text_column="premise", pair_column="hypothesis", span_columns=["begin", "end"])
    assert data.partitions["train"][1] == Text("It shines", "dry", (3, 9))
    apart = load(path, text_column="premise", pair_column="hypothesis", pair_as="rows").partitions["train"]
    assert [apart[row] for row in range(4)] == ["It rains", "wet", "It shines", "dry"]
    assert apart.groups.tolist() == ["train train:0"] * 2 + ["train train:1"] * 2
    with pytest.raises(InputError, match=r"dataset\.test_fraction is given too: leave it out"):
        load(path, text_column="premise", pair_column="hypothesis", pair_as="rows", test_fraction=0.5)
    with pytest.raises(
        InputError, match=r"shorten moves the characters of texts, and dataset\.span_columns marks some"
    ):
        load(path, text_column="premise", span_columns=["begin", "end"], shorten=["stop"])


def test_what_fits_no_texts_is_refused(tmp_path):
    images = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string"),
                                "label": datasets.Value("int64")})  # fmt: skip
    rows = {"image": [None, None], "caption": ["a", "b"], "label": [0, 1]}
    path = str(tmp_path / "images")
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features=images)}).save_to_disk(path)
    with pytest.raises(
        InputError, match=r"dataset\.shorten is of texts, the rows of .* are images: leave it out, or set"
    ):
        load(path, shorten=["stop"])
    assert load(path, shorten=["stop"], text_column="caption").rows == "texts"
    with pytest.raises(
        InputError, match=r"text_column is caption and column image is said to hold images, expected one"
    ):
        load(path, text_column="caption", image_column="image")
    two = saved(tmp_path / "two", {"first": ["a", "b"], "second": ["c", "d"], "label": [0, 1]})
    with pytest.raises(
        InputError, match=r"2 columns that may hold the texts \(first, second\).*set dataset\.text_column"
    ):
        load(two)
