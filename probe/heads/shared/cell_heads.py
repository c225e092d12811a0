"""Grids of linear heads for other targets than one class: each cell has a head of its own, the best one predicts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.arrays import RowSubset, cell_names, cell_of, row_chunks
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.given import plain_array
from probe.heads.shared.base import AnyHead, Validation
from probe.heads.shared.one_vs_rest import OneVsRestLinear
from probe.heads.shared.ridge_numbers import RidgeNumbers

Floats = NDArray[np.float64]


class CellHeads(AnyHead):
    """Mixin before a linear head: fits that head on each of G features of the same rows, and keeps all of them.

    Reads `cells`, (N, G, D). Each cell chooses its penalty as the head does; the cell with the best score there
    predicts, the first of equals.

    Attributes:
        names_: G names of the cells.
        cell_: Number of the chosen cell.
        cell_coefs_, cell_intercepts_: (G, K, D) and (G, K) of all cells.
        cell_Cs_: (G,) the penalty of each.
        cell_scores_: (G,) what they were chosen by; absent where nothing was.
    """

    consumes: ClassVar[tuple[str, ...]] = ("cells",)
    kept: ClassVar[tuple[str, ...]] = ()
    """What of the head of one cell is that of all."""
    names_: list[str]
    cell_: int
    cell_coefs_: Floats
    cell_intercepts_: Floats
    cell_Cs_: Floats
    cell_scores_: Floats
    coef_: Any
    intercept_: Any

    def member(self) -> Any:
        """An unfitted head of one cell."""
        raise NotImplementedError

    def _check_rows(self, X: Any, *, reset: bool) -> Any:
        if np.ndim(X) != 3 and getattr(X, "ndim", 3) != 3:
            raise InputError(
                f"cells has shape {tuple(X.shape)}: give (rows, cells, width), the features of each cell beside another"
            )
        return super()._check_rows(X, reset=reset)

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits a head on each cell of X (N, G, D)."""
        X = self._check_rows(X, reset=True)
        other = None if validation is None else self._check_rows(validation[0], reset=False)

        def one(cell: int) -> Any:
            given = None if validation is None else (cell_of(other, cell), validation[1])
            return self.member().fit(cell_of(X, cell), y, validation=given)

        return self._gather(cell_names(X), one)

    def fit_on_folds(self, X: Any, y: ArrayLike, folds: IntArray) -> Self:
        """Chooses penalties and cell by mean score over folds of the rows, then fits all cells on all rows.

        Args:
            X: (N, G, D).
            y: Labels of the rows.
            folds: (N,) the fold in which each row is held out, -1 for never.
        """
        X, y = self._check_rows(X, reset=True), plain_array(y, "y")
        numbers = np.unique(folds[folds >= 0])

        def one(cell: int) -> Any:
            rows, scores = cell_of(X, cell), list[list[Mapping[str, Any]]]()
            for fold in numbers:
                inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
                held = RowSubset(rows, inside), y[inside]
                trial = self.member().fit(RowSubset(rows, outside), y[outside], validation=held)
                scores.append(trial.selection_["searched"])
            if not scores:
                return self.member().fit(rows, y)
            names = list(self.searches)
            means = [float(np.mean([one["score"] for one in of])) for of in zip(*scores, strict=True)]
            best = {name: scores[0][int(np.argmax(means))][name] for name in names}
            found = self.member()
            found = found.set_params(**found.only(best)).fit(rows, y)
            searched = [{**{n: c[n] for n in names}, "score": mean} for c, mean in zip(scores[0], means, strict=True)]
            found.selection_ = {
                "on": f"{len(numbers)} folds of the training rows",
                "searched": searched,
                "chosen": best,
            }
            return found

        return self._gather(cell_names(X), one)

    def _gather(self, names: Sequence[str], one: Callable[[int], Any]) -> Self:
        members = [one(cell) for cell in range(len(names))]
        told: list[Any] = [getattr(member, "selection_", None) for member in members]
        self.names_, self.cell_ = list(names), 0
        self.__dict__.pop("cell_scores_", None)
        self.__dict__.pop("selection_", None)
        if all(of and of["searched"] for of in told):
            self.cell_scores_ = np.array([max(c["score"] for c in of["searched"]) for of in told])
            self.cell_ = int(self.cell_scores_.argmax())
            self.selection_ = {**told[self.cell_], "cell": names[self.cell_]}
        self.cell_Cs_ = np.array([np.mean(member.__dict__[f"{next(iter(self.searches))}_"]) for member in members])
        for name in self.kept:
            setattr(self, name, getattr(members[0], name))
        before = [member.before_refit() for member in members]
        if all(before):
            self._take(before)
            self._keep_choice()
        return self._take(members)

    def _take(self, members: Sequence[Any]) -> Self:
        self.cell_coefs_ = np.stack([member.coef_ for member in members])
        self.cell_intercepts_ = np.stack([member.intercept_ for member in members])
        return self._chosen_cell(self.cell_)

    def _chosen_cell(self, cell: int) -> Self:
        self.cell_ = cell
        self.coef_, self.intercept_ = self.cell_coefs_[cell], self.cell_intercepts_[cell]
        return self

    def of_cell(self, cell: int) -> Self:
        """The head as it would be had it chosen another cell."""
        return copy.copy(self)._chosen_cell(cell)

    def _in_chunks(self, X: Any, function: Callable[[Any], Any]) -> Any:
        part = cell_of(self._check_rows(X, reset=False), self.cell_)
        return np.concatenate([function(np.asarray(part[rows])) for rows in row_chunks(part)])


class RidgeCells(CellHeads, RidgeNumbers):
    """`RidgeNumbers` on each of G features of the same rows; what `head=grid` is for numbers to predict."""

    kept: ClassVar[tuple[str, ...]] = ("n_columns_",)

    def member(self) -> RidgeNumbers:
        """As `CellHeads.member`."""
        return RidgeNumbers(**self.get_params(deep=False))


class LinearLabelCells(CellHeads, OneVsRestLinear):
    """`OneVsRestLinear` on each of G features of the same rows; what `head=grid` is for several labels per row."""

    kept: ClassVar[tuple[str, ...]] = ("classes_",)

    def member(self) -> OneVsRestLinear:
        """As `CellHeads.member`."""
        return OneVsRestLinear(**self.get_params(deep=False))
