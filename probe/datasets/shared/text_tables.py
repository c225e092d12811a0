"""Columns of tables as rows that are texts."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.errors import InputError
from probe.core.texts import Text
from probe.datasets.shared.columns import Role
from probe.datasets.shared.split_tables import column_of
from probe.datasets.shared.tables import Table

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
