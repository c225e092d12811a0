"""Sets of texts as the library `datasets` of Hugging Face holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from probe.core.errors import InputError
from probe.core.texts import Text
from probe.datasets.shared.columns import LABEL, choose
from probe.datasets.shared.hub_sets import described, values_of
from probe.datasets.shared.shortening import Shortening
from probe.datasets.shared.tables import Table
from probe.datasets.shared.text_tables import TEXT, rows_of

STRINGS = ("string", "large_string")


@dataclass(frozen=True)
class OfTexts:
    """What is asked of a set of texts, and in which columns it stands.

    Attributes:
        text, pair, span: See `rows_of`; the first None until it is found.
        shorter: What is left out of texts.
    """

    text: str | None
    pair: str | None
    span: Sequence[str] | None
    shorter: Shortening

    def found_in(
        self, features: Mapping[str, Any], path: str, taken: Sequence[str | None], *, has_images: bool
    ) -> OfTexts | None:
        """With the column of the texts; None of a set of images.

        Args:
            features: Of the set.
            path: For errors.
            taken: Columns that hold something else.
            has_images: Whether there is a column of images, so that rows are texts only where that is asked for.

        Raises:
            InputError: Several columns may hold the texts, or something of texts is asked of images.
        """
        if has_images and self.text is None:
            given = {"pair_column": self.pair, "span_columns": self.span, "shorten": self.shorter.name}
            if odd := [word for word, value in given.items() if value]:
                raise InputError(
                    f"dataset.{odd[0]} is of texts, the rows of {path} are images: leave it out, or set "
                    "dataset.text_column"
                )
            return None
        there = described(features)
        elsewhere = {*taken, self.pair, *(self.span or ()), *LABEL.clear, *LABEL.usual}
        fitting = [c for c in there if there[c] in STRINGS and (c == self.text or c not in elsewhere)]
        found = choose(TEXT, path, there, self.text, fitting, by_kind=fitting)
        return None if found is None else replace(self, text=found)

    def rows(self, split: Any, part: str, path: str) -> list[str | Text]:
        """The rows of a split, made shorter."""
        assert self.text is not None
        table = table_of(split, [c for c in (self.text, self.pair, *(self.span or ())) if c], path)
        return [self.shorter(row) for row in rows_of(table, part, self.text, self.pair, self.span)]

    @property
    def suffix(self) -> str:
        """What the name of the dataset says of it."""
        return f" ({self.shorter.name})" if self.shorter.name else ""


def table_of(split: Any, columns: Sequence[str], path: str) -> Table:
    """Those of the columns that a split has."""
    return Table(Path(path), {c: values_of(split, c) for c in columns if c in split.features})
