"""Rows that are texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from numpy.typing import ArrayLike, NDArray

from probe.core.base import digest
from probe.core.hashing import hash_bytes
from probe.core.targets import Target
from probe.core.targets.one_class import ONE_CLASS
from probe.core.texts import Text, normalised
from probe.datasets.shared.partitions import check_lengths


class TextPartition:
    """Texts in memory, each a string or a `Text`.

    Args:
        rows: N of them.
        labels: Class codes (N,), or what another target says.
        ids: Names of the rows.
        target: What a label is.
    """

    def __init__(self, rows: Sequence[str | Text], labels: ArrayLike, ids: Sequence[str], target: Target = ONE_CLASS):
        self.rows, self.ids = list(rows), list(ids)
        self.labels: NDArray[Any] = target.held(labels)
        check_lengths({"rows": len(self.rows), "labels": len(self.labels), "ids": len(self.ids)})

    @cached_property
    def fingerprint(self) -> str:
        """Digest of texts, labels and ids, in order."""
        rows = [list(row) if isinstance(row, Text) else row for row in self.rows]
        return digest([rows, self.labels.tolist(), self.ids])

    def row_digests(self) -> list[str]:
        """Digest of each text; where case, white space and the spelling of characters alone differ, it is the same."""
        return self._row_digests

    @cached_property
    def _row_digests(self) -> list[str]:
        return [hash_bytes("\0".join(map(str, _content(row))).encode("utf-8", "surrogatepass")) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> str | Text:
        return self.rows[row]


def _content(row: str | Text) -> tuple[object, ...]:
    if isinstance(row, str):
        return (normalised(row),)
    return normalised(row.text), row.pair and normalised(row.pair), row.span
