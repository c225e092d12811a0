"""What some heads can do besides, asked for by isinstance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from probe.core.base import IntArray


@runtime_checkable
class FitsOnFolds(Protocol):
    """A head that chooses on folds of its rows by means of its own."""

    def fit_on_folds(self, X: Any, y: Any, folds: IntArray) -> Any:
        """Itself, fitted on all rows; `folds` (N,) says in which fold each is held out, -1 for never."""
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
