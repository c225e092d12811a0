import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from probe.core.errors import InputError
from probe.core.targets.relevance import RELEVANCE
from probe.datasets.beir import load
from probe.datasets.shared.partitions import LEFT_OUT

CORPUS = [
    {"_id": "d1", "title": "Cats", "text": "sit on mats", "metadata": {}},
    {"_id": "d2", "title": "", "text": " dogs run "},
    {"_id": "q2", "text": "ships"},
    {"_id": "d4", "title": "Alone", "text": None},
]
QUERIES = [{"_id": "q1", "text": "who sits?"}, {"_id": "q9", "text": "unasked"}, {"_id": "q2", "text": "who sails?"}]
QRELS = [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d4", 1), ("q2", "q2", 1)]
NAMES = ("query-id", "corpus-id", "score")


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def tsv(rows):
    return "".join("\t".join(map(str, row)) + "\n" for row in [NAMES, *rows])


def written(root, **others):
    """A folder as BEIR's; `others` are the contents of some files, by their stem, None for none."""
    files = {"corpus": lines(CORPUS), "queries": lines(QUERIES), "qrels": tsv(QRELS)} | others
    (root / "qrels").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if content is not None:
            (root / ("qrels/test.tsv" if name == "qrels" else f"{name}.jsonl")).write_text(content)
    return str(root)


def contract_case(root):
    """Four documents and two queries in BEIR's layout."""
    return {"path": written(root)}


def test_rows_are_the_documents_and_the_queries_that_are_judged(tmp_path):
    data = load(written(tmp_path / "sea"))
    test = data.partitions["test"]
    assert (data.name, data.target, set(data.partitions), data.rows) == ("sea", RELEVANCE, {"test"}, "texts")
    assert [test[i] for i in range(6)] == ["Cats sit on mats", "dogs run", "ships", "Alone", "who sits?", "who sails?"]
    assert list(test.ids) == ["corpus/d1", "corpus/d2", "corpus/q2", "corpus/d4", "queries/q1", "queries/q2"]
    assert test.labels.tolist() == [-1, -1, -1, -1, 1, 2]
    assert test.judgements.tolist() == [[4, 0, 2], [4, 1, 0], [5, 3, 1], [5, 2, 1]]
    assert test.same_ids.tolist() == [[5, 2]]
    assert data.notes[LEFT_OUT] == ["1 query without a judgement in test"]


def test_prefixes_and_the_separator_are_part_of_the_texts(tmp_path):
    asked = {"query_prefix": "query: ", "document_prefix": "passage: ", "title_separator": " | "}
    plain, data = load(written(tmp_path)), load(written(tmp_path), **asked)
    test = data.partitions["test"]
    assert [test[0], test[1], test[4]] == ["passage: Cats | sit on mats", "passage: dogs run", "query: who sits?"]
    assert data.fingerprint != plain.fingerprint


@pytest.mark.parametrize("layout", ["qrels/test-00000-of-00001.parquet", "data/test-00000-of-00001.parquet",
                                    "qrels/test.jsonl"])  # fmt: skip
def test_the_layout_of_the_hub_gives_the_same_rows(layout, tmp_path):
    plain = load(written(tmp_path / "plain", corpus=lines(CORPUS)), name="x")
    root = tmp_path / "hub"
    for part, rows in (("corpus", CORPUS), ("queries", QUERIES)):
        (root / part).mkdir(parents=True)
        for i, row in enumerate(rows):  # of which one has no title
            table = {key: [row[key]] for key in ("_id", "title", "text") if key in row}
            pq.write_table(pa.table(table), root / part / f"{part}-0000{i}-of-0000{len(rows)}.parquet")
    file = root / layout
    file.parent.mkdir(exist_ok=True)
    if layout.endswith("jsonl"):
        file.write_text(lines(dict(zip(NAMES, row, strict=True)) for row in QRELS))
    else:
        pq.write_table(pa.table({name: [row[i] for row in QRELS] for i, name in enumerate(NAMES)}), file)
    assert load(str(root), name="x").fingerprint == plain.fingerprint


def test_another_split_is_named_behind_a_dash(tmp_path):
    written(tmp_path)
    (tmp_path / "qrels/dev.tsv").write_text(tsv([("q9", "d1", 1)]))
    data = load(str(tmp_path), split="dev")
    assert data.name == f"{tmp_path.name}-dev"
    assert data.partitions["test"].labels.tolist() == [-1, -1, -1, -1, 1]
    with pytest.raises(InputError, match=r"qrels has dev.tsv, test.tsv, expected qrels/train.tsv \(or .parquet\): set"):
        load(str(tmp_path), split="train")


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"corpus": None}, "has qrels, queries.jsonl, expected corpus.jsonl .or .parquet.: set dataset.path to a fol"),
        ({"corpus": ""}, "corpus.jsonl has no rows, expected one JSON object per line: fill it"),
        ({"corpus": lines(CORPUS) + '{"_id": "d5", "te'}, "line 5 of .*corpus.jsonl is no JSON .*: write one object"),
        ({"corpus": lines([*CORPUS, CORPUS[0]])}, "corpus.jsonl has 2 rows of the id d1, expected one of each id: ren"),
        ({"queries": lines([{"id": "q1", "question": "x"}])}, "queries.jsonl has the columns id, question, exp"),
        (
            {"qrels": tsv([*QRELS, ("q1", "d7", 1), ("q1", "d8", 1)])},
            r"test.tsv names 2 document ids that corpus does not have, the first is d7, expected ids of corpus alone: "
            "give all of corpus, or leave out the lines that name others",
        ),
        ({"qrels": tsv([*QRELS, ("q7", "d1", 1)])}, "names 1 query id that queries does not have, the first is q7"),
        ({"qrels": tsv([("q1", "d1", 0)])}, "test has 1 query, none with a relevant document"),
        ({"qrels": tsv([("q1", "d1", 1), ("q1", "d1", 2)])}, "gives document d1 the scores 1 and 2 for query q1, exp"),
        ({"qrels": tsv([("q1", "d1", 0.5)])}, "row 0 of .*test.tsv has the score '0.5', expected a whole number: mend"),
        ({"qrels": "q1\td1\t1\nq2\td2\t1\n"}, "test.tsv has the columns q1, d1, 1, expected query-id among them"),
    ],
)
def test_other_content_is_refused(files, text, tmp_path):
    with pytest.raises(InputError, match=text):
        load(written(tmp_path, **files))


def test_a_judgement_that_is_there_twice_counts_once(tmp_path):
    data = load(written(tmp_path, qrels=tsv([*QRELS, QRELS[0], ("q1", "d2", "0.0")])))
    assert len(data.partitions["test"].judgements) == len(QRELS)


def test_no_path_is_refused():
    with pytest.raises(InputError, match=r"dataset=beir needs a folder with corpus.jsonl, .*: set dataset.path=<fol"):
        load()
