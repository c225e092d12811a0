"""What some heads can do besides, asked for by isinstance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.ragged import Ragged


@runtime_checkable
class FitsOnFolds(Protocol):
    """A head that chooses on folds of its rows by means of its own."""

    def fit_on_folds(self, X: Any, y: Any, folds: IntArray) -> Any:
        """Itself, fitted on all rows; `folds` (N,) says in which fold each is held out, -1 for never."""
        ...


@runtime_checkable
class GivesNumberMaps(Protocol):
    """A head of a number per pixel."""

    def number_maps(self, X: Any) -> NDArray[Any]:
        """(N, h, w) numbers on a grid of its own, for maps X (N, C, h', w')."""
        ...


@runtime_checkable
class ComparesCells(Protocol):
    """A head with a classifier for each of several features, its cells, of which it has chosen one.

    Attributes:
        names_: Of the cells.
        cell_: The chosen one.
        cell_Cs_: (G,) the penalty of each.
    """

    names_: list[str]
    cell_: int
    cell_Cs_: NDArray[Any]

    def of_cell(self, cell: int) -> Any:
        """The head as it would be had it chosen another one."""
        ...


@runtime_checkable
class HasBeside(Protocol):
    """A head that is not to be read without others that are fitted on the same rows."""

    def beside(self, X: Any) -> Mapping[str, NDArray[Any]]:
        """By name what each of them says of rows, (N, K)."""
        ...


@runtime_checkable
class VotesByWord(Protocol):
    """A head whose scores of the classes are sums of what each word of a row says.

    Attributes:
        vocabulary_: (V,) ids of the words that it knows.
    """

    vocabulary_: IntArray

    def explain(self, X: Any) -> Ragged:
        """(M, K) what the words of all rows say of each class, one row after the other."""
        ...


@runtime_checkable
class DecidesEarly(Protocol):
    """A head that may know enough before a row ends."""

    def decide_early(self, X: Any, target: Any) -> tuple[NDArray[Any], IntArray]:
        """(N,) whether a class is ever ahead of all others, and (N,) after how many words it first is, or all."""
        ...
