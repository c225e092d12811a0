"""A corpus, queries and relevance judgements, as BEIR and MTEB keep them: corpus.jsonl, queries.jsonl, qrels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.targets.relevance import RELEVANCE
from probe.core.words import counted
from probe.datasets.shared.judged_rows import JudgedPartition
from probe.datasets.shared.partitions import make_dataset
from probe.datasets.shared.records import read_jsonl, read_parquet
from probe.datasets.shared.sources import holds
from probe.datasets.shared.tables import Table, read_table
from probe.datasets.shared.text_rows import TextPartition

TEXTS = ("{0}.jsonl", "{0}.parquet", "{0}/*.jsonl", "{0}/*.parquet")
"""Where the corpus and the queries lie, the first that is there."""
QRELS = tuple(f"{folder}/{{0}}{ending}" for folder in ("qrels", "data", "default")
              for ending in (".tsv", ".jsonl", ".parquet", "-*.parquet"))  # fmt: skip
"""Where the judgements of a split lie."""
ID, TITLE, TEXT = ("_id", "id"), ("title",), ("text",)
QUERY, DOCUMENT, GRADE = ("query-id",), ("corpus-id",), ("score",)
"""Columns, each by the names that it goes by."""


def load(
    path: str | None = None,
    name: str | None = None,
    split: str = "test",
    query_prefix: str = "",
    document_prefix: str = "",
    title_separator: str = " ",
) -> Dataset:
    """Reads documents and queries as rows of the partition test, from which nothing is learnt.

    The folder holds `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and `qrels/test.tsv`
    (`query-id`, `corpus-id`, `score`), or the same as parquet files below `corpus`, `queries` and `qrels` (or `data`,
    `default`), as MTEB's lie on the Hugging Face Hub. Rows are all documents, then the queries that are judged.

    Args:
        path: The folder.
        name: How tables call it; by default the folder's, with the split behind a dash where it is not test.
        split: Whose judgements are read, such as `dev`.
        query_prefix, document_prefix: Ahead of every query and of every document, for models that were trained with
            such, as E5 with `"query: "` and `"passage: "`.
        title_separator: Between the title and the text of a document that has a title.
    """
    if path is None:
        raise InputError(
            "dataset=beir needs a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv, none is given: set "
            "dataset.path=<folder>"
        )
    root = Path(path).expanduser()
    corpus, queries = (_read(root, TEXTS, part) for part in ("corpus", "queries"))
    documents, texts = _by_id(corpus), dict(zip(_by_id(queries), _column(queries, TEXT), strict=True))
    grades = _grades(_read(root, QRELS, split), documents, texts)
    asked = list(dict.fromkeys(query for query, _ in grades))
    rows = [document_prefix + text for text in _texts(corpus, title_separator)]
    rows += [query_prefix + _text(texts[query]) for query in asked]
    ids = [f"corpus/{i}" for i in documents] + [f"queries/{i}" for i in asked]
    place = {query: row for row, query in enumerate(asked, len(documents))}
    judgements = [(place[query], documents[document], grade) for (query, document), grade in grades.items()]
    same_ids = [(place[query], documents[query]) for query in asked if query in documents]
    test = JudgedPartition(
        TextPartition(rows, np.zeros(len(rows), dtype=np.int64), ids), np.arange(len(rows)) >= len(documents),
        judgements, same_ids,
    )  # fmt: skip
    unjudged = len(texts) - len(asked)
    left_out = [f"{counted(unjudged, 'query', 'queries')} without a judgement in {split}"] if unjudged else []
    called = name or root.resolve().name + (f"-{split}" if split != "test" else "")
    return make_dataset(called, (), {"test": test}, target=RELEVANCE, left_out=left_out, rows="texts")


def _read(root: Path, patterns: Sequence[str], part: str) -> Table:
    """The tables of the first pattern that has files, one below the other."""
    for pattern in patterns:
        if files := sorted(root.glob(pattern.format(part))):
            return _joined([_READERS[file.suffix](file) for file in files])
    first = patterns[0].format(part)
    inside = (root / first).parent
    raise InputError(
        f"{holds(inside if inside.is_dir() else root)}, expected {first} (or .parquet): set dataset.path to a folder "
        "that has corpus.jsonl, queries.jsonl and qrels, and dataset.split to a split among these"
    )


def _jsonl(file: Path) -> Table:
    return read_jsonl(file, same_keys=False)


_READERS: Mapping[str, Callable[[Path], Table]] = {".jsonl": _jsonl, ".parquet": read_parquet, ".tsv": read_table}


def _joined(tables: Sequence[Table]) -> Table:
    first = tables[0]
    columns: dict[str, list[Any]] = {column: [] for column in first.columns}
    for column, values in columns.items():
        for table in tables:
            values += table.columns.get(column) or [None] * len(table)
    return Table(first.source, columns)


def _column(table: Table, names: Sequence[str]) -> list[Any]:
    for name in names:
        if name in table.columns:
            return table.columns[name]
    raise InputError(
        f"{table.source} has the columns {', '.join(table.columns)}, expected {names[0]} among them: name the column so"
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _texts(corpus: Table, separator: str) -> list[str]:
    """Title and text of each document, as BEIR joins them."""
    texts = map(_text, _column(corpus, TEXT))
    titles = map(_text, _column(corpus, TITLE) if TITLE[0] in corpus.columns else [None] * len(corpus))
    return [((title + separator if title else "") + text).strip() for title, text in zip(titles, texts, strict=True)]


def _by_id(table: Table) -> dict[str, int]:
    """The row of each id."""
    ids = [str(value) for value in _column(table, ID)]
    found = {value: row for row, value in enumerate(ids)}
    if len(found) < len(ids):
        twice = next(value for row, value in enumerate(ids) if found[value] != row)
        raise InputError(
            f"{table.source} has {ids.count(twice)} rows of the id {twice}, expected one of each id: rename the others"
        )
    return found


def _grades(qrels: Table, documents: Collection[str], queries: Collection[str]) -> dict[tuple[str, str], int]:
    """The grade of each query and document that are judged."""
    asked, judged = ([str(value) for value in _column(qrels, names)] for names in (QUERY, DOCUMENT))
    _check_known(qrels, asked, queries, "query", "queries")
    _check_known(qrels, judged, documents, "document", "corpus")
    found: dict[tuple[str, str], int] = {}
    for row, (query, document, score) in enumerate(zip(asked, judged, _column(qrels, GRADE), strict=True)):
        grade = _grade(score, f"row {row} of {qrels.source}")
        if found.setdefault((query, document), grade) != grade:
            raise InputError(
                f"{qrels.source} gives document {document} the scores {found[query, document]} and {grade} for query "
                f"{query}, expected one: leave the other out"
            )
    return found


def _check_known(qrels: Table, named: Sequence[str], there: Collection[str], noun: str, of: str) -> None:
    unknown = [name for name in dict.fromkeys(named) if name not in there]
    if unknown:
        ids = counted(len(unknown), f"{noun} id", f"{noun} ids")
        raise InputError(
            f"{qrels.source} names {ids} that {of} does not have, the first is {unknown[0]}, expected ids of "
            f"{of} alone: give all of {of}, or leave out the lines that name others"
        )


def _grade(score: Any, where: str) -> int:
    try:
        if (grade := int(float(score))) == float(score):
            return grade
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{where} has the score {score!r}, expected a whole number: mend the row")
