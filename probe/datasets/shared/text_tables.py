"""Columns of tables as rows that are texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probe.core.errors import InputError
from probe.core.targets import Target
from probe.core.texts import Text
from probe.datasets.shared.columns import Role
from probe.datasets.shared.row_facts import FACTS, know
from probe.datasets.shared.split_tables import column_of
from probe.datasets.shared.tables import Table
from probe.datasets.shared.text_rows import TextPartition

TEXT = Role(
    "the texts", "text_column", ("text", "sentence"),
    ("content", "review", "document", "body", "utterance", "question", "message", "tweet"),
)  # fmt: skip


def rows_of(table: Table, part: str, text: str, pair: str | None, span: Sequence[str] | None) -> Sequence[str | Text]:
    """The rows of a table: texts, or each with a second one, or with a marked span.

    Args:
        table: With the columns.
        part: The partition, for errors.
        text: Column of the texts.
        pair: Of second texts.
        span: Columns of the first character of a span, and of the one behind its last.

    Raises:
        InputError: A row without a text, or a span that does not lie in its text.
    """
    texts = _texts(table, text, part)
    if pair is None and span is None:
        return texts
    pairs = _texts(table, pair, part) if pair is not None else [None] * len(texts)
    spans = _spans(table, span, part, texts) if span is not None else [None] * len(texts)
    return [Text(*row) for row in zip(texts, pairs, spans, strict=True)]


JOINED, APART = "joined", "rows"
"""How a second text is read: behind the first, as a cross-encoder does, or as a row of its own, as a bi-encoder."""


def check_pair_as(
    pair_as: str, pair: str | None, span: Sequence[str] | None, group: str | None, cut: float | None = None
) -> bool:
    """Whether the two texts of each row of a table become two rows.

    Args:
        pair_as: `joined` or `rows`.
        pair: Column of the second texts.
        span: Columns of a marked span, which is in the first text.
        group: Column of groups, where pairs would be groups too.
        cut: Share of rows that are taken by themselves to test.

    Raises:
        InputError: It is something else, or asked for beside what makes no sense with it.
    """
    if pair_as not in (JOINED, APART):
        raise InputError(
            f"dataset.pair_as is {pair_as!r}, expected {JOINED} (the second text behind the first) or {APART} (two "
            "rows of one group): set one of them"
        )
    if pair_as == JOINED:
        return False
    if pair is None:
        raise InputError(
            "dataset.pair_as=rows makes rows of two texts and dataset.pair_column names no second one: set it to the "
            "column of the second texts"
        )
    given = {"span_columns": span, "group_column": group, "test_fraction": cut}
    if odd := [word for word, value in given.items() if value]:
        raise InputError(
            f"dataset.pair_as=rows makes every pair of texts a group, dataset.{odd[0]} is given too: leave it out"
        )
    return True


def pairs_apart(whole: TextPartition, target: Target, part: str) -> TextPartition:
    """Of each row with a second text two rows, one behind the other, with its label and a group of their own.

    Args:
        whole: Rows that are all `Text` with a pair.
        target: What a label is.
        part: The partition, so that no two of them share a group.
    """
    rows = [side for row in whole.rows if isinstance(row, Text) for side in (row.text, row.pair or "")]
    ids = [f"{row}{side}" for row in whole.ids for side in "ab"]
    found = TextPartition(rows, np.repeat(whole.labels, 2, axis=0), ids, target)
    twice = {name: np.repeat(getattr(whole, name), 2) for name in FACTS if hasattr(whole, name)}
    know(found, twice | {"groups": np.repeat([f"{part} {row}" for row in whole.ids], 2)}, part)
    return found


def _texts(table: Table, column: str, part: str) -> list[str]:
    values = column_of(table, column)
    odd = next((row for row, value in enumerate(values) if not isinstance(value, str)), None)
    if odd is not None:
        raise InputError(
            f"row {odd} of {part} has {values[odd]!r} in column {column} of {table.source}, expected a text: fill it "
            "in (an empty text will do), or leave the row out"
        )
    return values


def _spans(table: Table, columns: Sequence[str], part: str, texts: Sequence[str]) -> list[tuple[int, int]]:
    if isinstance(columns, str) or len(columns) != 2:
        raise InputError(
            f"dataset.span_columns is {columns!r}, expected two columns, where a span begins and where it ends: set "
            "dataset.span_columns=[start,end]"
        )
    found = []
    for row, ends in enumerate(zip(*(column_of(table, column) for column in columns), strict=True)):
        try:
            first, last = (int(end) for end in ends)
        except (TypeError, ValueError):
            first, last = -1, -1
        if not 0 <= first < last <= len(texts[row]):
            raise InputError(
                f"row {row} of {part} has the span {ends[0]!r} to {ends[1]!r} in {table.source}, expected two whole "
                f"numbers from 0 to {len(texts[row])}, the length of its text in characters, the first one smaller: "
                "mend it"
            )
        found.append((first, last))
    return found
