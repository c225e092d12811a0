"""Texts from tables and folders: columns, partitions, labels, spans, copies, and what is wrong with them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from probe.core.errors import InputError
from probe.core.targets.labels import Labels
from probe.core.texts import Text
from probe.datasets.shared.partitions import count_duplicates
from probe.datasets.texts import load
from probe.protocols.cross_validation import CrossValidation

TEXTS = ["good, very", "bad", "great", "awful", "fine", "poor"]
NAMES = ["pos", "neg"] * 3
ROWS = [{"text": t, "label": n, "stars": s} for t, n, s in zip(TEXTS, NAMES, (5, 1, 5, 1, 4, 2), strict=True)]


def write(path, rows=ROWS):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        separator = "\t" if path.suffix == ".tsv" else ","
        lines = [list(rows[0]), *([str(v) for v in row.values()] for row in rows)]
        path.write_text("\n".join(separator.join(f'"{v}"' for v in line) for line in lines))
    return path


def files(root, texts, encoding="utf-8"):
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode(encoding))
    return root


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"])
def test_a_table_of_any_ending_gives_the_same_rows(tmp_path, ending):
    data = load(str(write(tmp_path / f"reviews{ending}")))
    assert (data.name, data.rows, data.class_names) == ("reviews", "texts", ("neg", "pos"))
    assert list(data.partitions) == ["train"]
    assert [data.partitions["train"][row] for row in range(6)] == TEXTS
    assert data.partitions["train"].labels.tolist() == [1, 0] * 3
    other = load(str(write(tmp_path / "other.jsonl")))
    assert other.partitions["train"].fingerprint == data.partitions["train"].fingerprint


def test_partitions_come_from_a_column_or_from_files(tmp_path):
    parts = ["train"] * 4 + ["test", "val"]
    rows = [row | {"split": part} for row, part in zip(ROWS, parts, strict=True)]
    data = load(str(write(tmp_path / "all.csv", rows)))
    assert {part: len(p) for part, p in data.partitions.items()} == {"train": 4, "test": 1, "validation": 1}
    write(tmp_path / "set" / "train.jsonl", ROWS[:4])
    write(tmp_path / "set" / "test.jsonl", ROWS[4:])
    data = load(str(tmp_path / "set"))
    assert (data.name, [p[0] for p in data.partitions.values()]) == ("set", ["good, very", "fine"])


def test_a_file_per_text_in_a_folder_per_class_with_partitions_or_without(tmp_path):
    whole = files(tmp_path / "whole", {"a/1.txt": "one", "a/deep/2.txt": "two", "b/3.txt": "three", "b/.x.txt": "no"})
    data = load(str(whole))
    assert data.partitions["train"].ids == ["a/1.txt", "a/deep/2.txt", "b/3.txt"]
    assert data.partitions["train"].labels.tolist() == [0, 0, 1]
    texts = {f"{part}/{c}/{i}.txt": f"{part} {c} {i}" for part in ("train", "val") for c in "ab" for i in range(2)}
    data = load(str(files(tmp_path / "parts", texts | {"train/a/note.md": "x"})), class_names=["A", "B"])
    assert data.class_names == ("A", "B")
    assert {part: len(p) for part, p in data.partitions.items()} == {"train": 4, "test": 4}
    assert data.notes["left_out"] == ["1 file that is no .txt by their ending (1 .md)"]
    latin = files(tmp_path / "latin", {"a/1.txt": "café", "b/1.txt": "x"}, "latin-1")
    with pytest.raises(InputError, match=r"1\.txt is no text in UTF-8 .*set dataset\.encoding=latin-1"):
        load(str(latin))
    assert load(str(latin), encoding="latin-1").partitions["train"][0] == "café"


def test_pairs_and_spans_are_part_of_the_row(tmp_path):
    rows = [{"premise": "the cat sat", "hypothesis": f"a {i}", "start": 4, "end": 7, "label": i % 2} for i in range(4)]
    path = str(write(tmp_path / "nli.csv", rows))
    columns = {"text_column": "premise", "pair_column": "hypothesis"}
    assert load(path, **columns).partitions["train"][1] == Text("the cat sat", "a 1")
    data = load(path, **columns, span_columns=["start", "end"])
    assert data.partitions["train"][0] == Text("the cat sat", "a 0", (4, 7))
    assert data.fingerprint != load(path, **columns).fingerprint
    for columns_of_span, told in (
        (["start"], "expected two columns"),
        (["end", "start"], "span '7' to '4' in .*to 11"),
    ):
        with pytest.raises(InputError, match=told):
            load(path, **columns, span_columns=columns_of_span)


def test_pairs_are_two_rows_of_one_group_where_that_is_asked_for(tmp_path):
    rows = [{"one": f"a {i}", "two": f"b {i}", "score": i / 2, "hard": 9 - i} for i in range(4)]
    write(tmp_path / "sts" / "train.csv", rows)
    write(tmp_path / "sts" / "test.csv", rows[:2])
    columns = {"text_column": "one", "pair_column": "two", "target_columns": ["score"], "hardness_column": "hard"}
    data = load(str(tmp_path / "sts"), **columns, pair_as="rows")
    train, test = data.partitions["train"], data.partitions["test"]
    assert [train[row] for row in range(4)] == ["a 0", "b 0", "a 1", "b 1"]
    assert train.labels.tolist() == [0, 0, 0.5, 0.5, 1, 1, 1.5, 1.5]
    assert train.ids[:3] == ["0a", "0b", "1a"]
    assert train.hardness.tolist() == [9, 9, 8, 8, 7, 7, 6, 6]
    assert train.groups[:4].tolist() == ["train 0", "train 0", "train 1", "train 1"]
    assert not set(train.groups) & set(test.groups)
    joined = load(str(tmp_path / "sts"), **columns).partitions["train"]
    assert (
        joined.fingerprint == load(str(tmp_path / "sts"), **columns, pair_as="joined").partitions["train"].fingerprint
    )
    assert joined.fingerprint != train.fingerprint
    shorter = load(str(tmp_path / "sts"), **columns, pair_as="rows", shorten=["head:1"]).partitions["train"]
    assert [shorter[row] for row in range(3)] == ["a", "b", "a"]


def test_pairs_as_rows_are_refused_beside_what_makes_no_sense_with_them(tmp_path):
    path = str(write(tmp_path / "pairs.csv", [{"text": f"a {i}", "two": f"b {i}", "label": i % 2} for i in range(4)]))
    for given, told in (
        ({"pair_as": "both"}, "pair_as is 'both', expected joined .* or rows"),
        ({"pair_as": "rows", "pair_column": None}, r"dataset\.pair_column names no second one: set it to the column"),
        ({"pair_as": "rows", "group_column": "label"}, r"dataset\.group_column is given too: leave it out"),
        ({"pair_as": "rows", "span_columns": ["a", "b"]}, r"dataset\.span_columns is given too: leave it out"),
    ):
        with pytest.raises(InputError, match=told):
            load(path, **{"pair_column": "two"} | given)
    assert len(load(path, pair_column="two", pair_as="rows").partitions["train"]) == 8


def test_several_labels_per_text(tmp_path):
    rows = [{"text": f"t{i}", "label": tags} for i, tags in enumerate(["a|b", "a", "", "b"])]
    data = load(str(write(tmp_path / "tags.csv", rows)), separator="|")
    assert data.target == Labels()
    assert data.partitions["train"].labels.tolist() == [[1, 1], [1, 0], [0, 0], [0, 1]]
    rows = [{"text": row["text"], "label": row["label"].split("|") if row["label"] else []} for row in rows]
    other = load(str(write(tmp_path / "tags.jsonl", rows)))
    assert np.array_equal(other.partitions["train"].labels, data.partitions["train"].labels)


def test_words_that_are_whole_numbers_are_class_numbers(tmp_path):
    rows = [{"text": f"t{i}", "label": i % 3 + 1} for i in range(6)]
    for ending in (".csv", ".jsonl"):
        path = str(write(tmp_path / f"numbers{ending}", rows))
        with pytest.raises(InputError, match=r"labels out of range.*dataset\.map_labels=true"):
            load(path)
        assert load(path, map_labels=True).class_names == ("1", "2", "3")


def test_texts_that_differ_in_case_and_spaces_alone_are_copies(tmp_path):
    rows = [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(["The  Cat\n", "dog", "x"])]
    other = [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(["the cat", "ﬁne", "dogs", "DOG"])]
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "test.jsonl", other)
    assert count_duplicates(load(str(tmp_path))) == {"test": 2}


def test_rows_of_one_document_stay_together(tmp_path):
    rows = [{"text": f"t{i}", "label": "ab"[i % 2], "document": i // 4} for i in range(40)]
    data = load(str(write(tmp_path / "d.jsonl", rows)), group_column="document")
    split = CrossValidation(n_folds=3).split(data, 0)
    groups = np.asarray(data.partitions["train"].groups)
    assert not set(groups[split.train.indices]) & set(groups[split.test.indices])


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        (
            [{"a": "x y", "b": "z w", "label": 0}],
            {},
            r"2 columns that may hold the texts \(a, b\).*dataset\.text_column",
        ),
        ([{"n": 1, "label": 0}], {}, r"columns n \(numbers\), label \(numbers\), expected text or sentence"),
        ([{"text": "x", "stars": 3}], {}, r"expected label or labels .*set dataset\.label_column"),
        ([{"text": None, "label": 0}, {"text": "x", "label": 1}], {}, "row 0 of train has None in column text"),
        ([{"text": "x", "label": None}, {"text": "y", "label": 1}], {}, "row 0 of train has the label None"),
        ([{"text": "x", "label": 0}], {"text_column": "body"}, "expected body with the texts: set"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, rows, options, told):
    with pytest.raises(InputError, match=told):
        load(str(write(tmp_path / "t.jsonl", rows)), **options)


def test_images_in_a_column_of_texts_are_refused(tmp_path):
    png = {"bytes": b"\x89PNG\r\n", "path": "0.png"}
    for value in (png, b"\x89PNG\r\n"):
        path = str(write(tmp_path / "images.parquet", [{"image": value, "label": 0}, {"image": value, "label": 1}]))
        with pytest.raises(InputError, match=r"columns image \((dict|bytes)\), label \(numbers\), expected text"):
            load(path)
        with pytest.raises(
            InputError, match=r"row 0 of train has .*PNG.* in column image of .*, expected a text: fill"
        ):
            load(path, text_column="image")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.jsonl", '{"text": "x"}\nnot json\n', "line 2 of .* is no JSON"),
        ("t.jsonl", "[1, 2]\n", "line 1 of .* is list, expected an object"),
        ("t.jsonl", '{"text": "x", "label": 1}\n{"text": "x"}\n', "line 2 of .* differs from the first in label"),
        ("t.jsonl", "\n", "has no rows"),
        ("t.parquet", "no parquet", "cannot be read as parquet"),
        ("t.docx", "x", r"is no table of texts, expected one that ends with \.csv, \.tsv, \.jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=told):
        load(str(tmp_path / name))


def test_a_folder_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has nothing, expected a table train\.csv"):
        load(str(tmp_path / "empty"))
    loose = files(tmp_path / "loose", {"train/a/1.txt": "x", "train/2.txt": "y", "train/b/3.txt": "z"})
    with pytest.raises(InputError, match=r"holds 1 text beside its class folders \(2\.txt\)"):
        load(str(loose))
    with pytest.raises(InputError, match=r"none is given: set dataset\.path"):
        load()


def contract_case(root):
    parts = ("train", "test")
    rows = [{"text": f"{part} {c} {i}", "label": c, "split": part} for part in parts for c in "ab" for i in range(3)]
    return {"path": str(write(root / "table.jsonl", rows))}
