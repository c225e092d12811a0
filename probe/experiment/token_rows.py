"""Tokenised texts as a partition, which a text tower reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from probe.core.base import IntArray, digest
from probe.core.hashing import hash_arrays

PARTITION = "texts"


@dataclass(frozen=True)
class TokenRows:
    """Tokenised texts as a partition: (n, L) tokens, the class of each, the texts as ids."""

    tokens: IntArray
    labels: IntArray
    ids: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of tokens, labels and texts: another tokenizer makes other rows."""
        return digest([hash_arrays({"tokens": self.tokens, "labels": self.labels}), list(self.ids)])

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: int) -> IntArray:
        return self.tokens[row]
