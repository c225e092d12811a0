"""Text retrieval from a corpus, queries and judgements to a run folder and a table, with a random language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from language_models import WORDS, save
from sklearn.metrics import ndcg_score

import probe
from probe.backbones.huggingface import load
from probe.command.describe import describe, render
from probe.core.errors import ProbeError
from probe.datasets.beir import load as load_beir
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table
from probe.results.reader import read_predictions

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
N_DOCUMENTS, N_QUERIES = 40, 10


def write(root: Path, grade: int = 2) -> None:
    """Documents of eight words, queries of four words of one of them, which is relevant, and of a further one."""
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, 8)) for _ in range(N_DOCUMENTS)]
    queries = [" ".join(rng.permutation(documents[i].split())[:4]) for i in range(N_QUERIES)]
    (root / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", documents), ("queries", queries)):
        rows = [{"_id": f"{i}", "text": text} for i, text in enumerate(texts)]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = [(i, d, g) for i in range(N_QUERIES) for d, g in ((i + 20, grade), (i + 25, 1))]
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in judged)]
    (root / "qrels/test.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory: Any) -> Path:
    root: Path = tmp_path_factory.mktemp("retrieval")
    write(root / "small")
    write(root / "regraded", grade=3)
    save(root / "bert", "bert")
    return root


@pytest.fixture
def asked(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return {
        "backbone": ("huggingface", {"name": str(files / "bert")}), "dataset": ("beir", {"path": str(files / "small")}),
        "head": "document_retrieval", "cache": str(files / "cache"), "quiet": True,
    }  # fmt: skip


def test_ndcg_of_a_run_is_that_of_the_model_itself(files: Path, asked: dict[str, Any]) -> None:
    result = probe.run(**asked)
    backbone, test = load(str(files / "bert")), load_beir(str(files / "small")).partitions["test"]
    with torch.no_grad():
        rows = [backbone.extract(backbone.collate([backbone.transform(test[i])]), ["pooled"])["pooled"][0].numpy()
                for i in range(len(test))]  # fmt: skip
    unit = np.array(rows, dtype=np.float64)
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    similarities, grades = unit[N_DOCUMENTS:] @ unit[:N_DOCUMENTS].T, np.zeros((N_QUERIES, N_DOCUMENTS))
    np.fill_diagonal(similarities, -9)  # the document of the query's own id
    grades[np.arange(N_QUERIES), np.arange(N_QUERIES) + 20] = 2
    grades[np.arange(N_QUERIES), np.arange(N_QUERIES) + 25] = 1
    expected = ndcg_score(grades, similarities, k=10)
    assert 0 < expected < 1
    assert result.metrics["ndcg_at_10"].value == pytest.approx(expected, abs=1e-6)
    shown = probe.run(**{**asked, "head": ("document_retrieval", {"ignore_identical_ids": False})})
    assert shown.folder != result.folder


def test_a_run_says_what_it_measured_and_the_table_and_the_page_show_it(asked: dict[str, Any]) -> None:
    result = probe.run(**asked)
    kept = read_predictions(result.folder)
    assert (result.record["dataset"]["target"], result.record["dataset"]["class_names"]) == ("relevance", [])
    assert [result.record["protocol"][f"n_{part}"] for part in ("train", "validation", "test")] == [0, 0, 50]
    assert set(kept) == {"row", "label", "of_query"}
    assert set(result.metrics) == {"ndcg_at_10", "map_at_100", "recall_at_100", "mrr_at_10"}
    records = read_folders([str(result.folder.parent)])
    assert not records.problems
    table = build_table(records)
    assert (table.metric, table.measure.percent) == ("ndcg_at_10", True)
    assert {shown["fault"] for shown in page_data(table, records.frame)["runs"]} == {""}


def test_another_grade_makes_another_run_of_other_ndcg_and_the_same_recall(files: Path, asked: dict[str, Any]) -> None:
    first = probe.run(**asked)
    other = probe.run(**{**asked, "dataset": ("beir", {"path": str(files / "regraded"), "name": "small"})})
    assert other.folder.name != first.folder.name
    assert other.metrics["recall_at_100"] == first.metrics["recall_at_100"]
    assert other.metrics["ndcg_at_10"] != first.metrics["ndcg_at_10"]
    assert probe.run(**asked).folder == first.folder


def test_recorded_rows_are_looked_for_among_themselves(asked: dict[str, Any], tmp_path: Path) -> None:
    whole = probe.run(**asked, save_rows=True)
    rows = json.loads((whole.folder / "rows.json").read_text())
    rows["test"]["indices"] = [20, 21, 30, 31, 40, 41, 42]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    result = probe.run(**asked, protocol=("recorded", {"path": str(tmp_path / "rows.json")}))
    kept = read_predictions(result.folder)
    assert kept["row"].tolist() == rows["test"]["indices"]
    assert kept["label"].tolist() == [-1] * 4 + [2, 2, 2]
    found = ~np.isnan(kept["of_query"][:, 2])
    assert found.tolist() == [False] * 4 + [True, True, False]  # both documents of query 2 are elsewhere
    assert result.metrics["recall_at_100"].value == 1


def test_describe_counts_documents_and_queries(files: Path) -> None:
    lines = render(describe(load(str(files / "bert")), load_beir(str(files / "small"))))
    assert "small, 40 documents and 10 queries, 50 test" in lines
    assert "relevant/query 2 to 2, median 2" in lines
    assert "leakage" not in lines


def test_a_limit_that_parts_queries_from_their_documents_is_refused_and_without_it_there_is_a_run(
    asked: dict[str, Any],
) -> None:
    with pytest.raises(ProbeError, match=r"has 1 query, none with a relevant document among its 5 rows .limit=null"):
        probe.run(**asked, limit=5)
    assert probe.run(**asked, limit=None).metrics


def test_texts_that_are_cut_are_told_of_the_rows_that_test(files: Path, asked: dict[str, Any]) -> None:
    short = ("huggingface", {"name": str(files / "bert"), "max_length": 8})
    (note,) = probe.run(**{**asked, "backbone": short}).record["notes"]
    assert note.startswith("40 of 50 test texts looked at are longer than the 8 tokens that are read of each")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"head": "linear"}, "small has relevance judgements, head linear fits .*: choose head=document_retrieval"),
        ({"head": "none"}, "small has relevance judgements, head none fits .*: choose head=document_retrieval"),
        ({"dataset": "digits", "backbone": "tiny"}, "head document_retrieval fits relevance judgements: set data"),
        ({"protocol": "holdout"}, "protocol holdout draws training rows: choose one of full, official, recorded"),
        ({"calibrate": True}, "small has relevance judgements, calibrate need one class per row: leave them out"),
        ({"standardize": True}, "standardize=True wants training rows, dataset small has none: set standardize=false"),
        ({"control": "shuffled_labels"}, "nothing is learnt from the labels of this dataset: leave it out"),
        ({"search": "halving"}, "search=halving does not go with"),
        ({"test_on": "digits"}, "small has relevance judgements, test_on need one class per row: leave them out"),
        ({"neural_collapse": True}, "small has relevance judgements: leave it out"),
        ({"ood": {"other": "digits"}}, "it has relevance judgements: leave ood out"),
        ({"head": ("document_retrieval", {"metric": "l2"})}, "metric is 'l2', expected cosine or dot: set head.m"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(options: dict[str, Any], text: str, asked: dict[str, Any]) -> None:
    with pytest.raises(ProbeError, match=text):
        probe.run(**{**asked, **options})
