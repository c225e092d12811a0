"""Rows of token ids as heads of words read them: counts, without padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.core.ragged import Ragged, lengths_of, tokens_of


class TokenRows:
    """N rows of token ids, in the store or in memory; slices of them are read without padding.

    Args:
        X: `RaggedRows` of ids or a selection of these, or an array (N, T) in which every place is a token.

    Raises:
        InputError: It holds something else than whole numbers.
    """

    def __init__(self, X: Any):
        self.array = X if lengths_of(X) is not None else plain_array(X, "token_ids")
        self.shape, self.dtype = tuple(self.array.shape), np.dtype(self.array.dtype)
        if len(self.shape) != 2 or 0 in self.shape or self.dtype.kind not in "iu":
            raise InputError(
                f"token_ids has shape {self.shape} and dtype {self.dtype}, expected whole numbers (N, T), at "
                "least one: give the kind token_ids of a backbone of texts"
            )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Ragged:
        return tokens_of(self.array, np.arange(len(self))[key])


def vocabulary_of(tokens: Ragged) -> IntArray:
    """The ids that occur, in ascending order."""
    return np.unique(tokens.values).astype(np.int64)


def places_of(tokens: Ragged, vocabulary: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
    """(M,) where each id stands in a vocabulary, and whether it does; any place where it does not."""
    places = np.searchsorted(vocabulary, tokens.values).clip(max=len(vocabulary) - 1)
    return places, vocabulary[places] == tokens.values


def counts_of(tokens: Ragged, vocabulary: IntArray) -> sparse.csr_matrix:
    """(N, V) how often each id of a vocabulary stands in each row; other ids are left out."""
    columns, known = places_of(tokens, vocabulary)
    rows: NDArray[Any] = np.repeat(np.arange(len(tokens)), tokens.lengths)
    ones = np.ones(int(known.sum()))
    return sparse.csr_matrix((ones, (rows[known], columns[known])), shape=(len(tokens), len(vocabulary)))
