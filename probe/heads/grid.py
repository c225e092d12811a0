"""A linear probe for each of many features of the same rows, such as all layers x positions, fitted as one problem."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from probe.core.arrays import RowStack, RowSubset, cell_names, cell_of, row_chunks
from probe.core.base import IntArray
from probe.core.device import resolve_device
from probe.core.errors import DoesNotFit, InputError
from probe.core.given import plain
from probe.heads.shared.base import AnyHead
from probe.heads.shared.cell_heads import LinearLabelCells, RidgeCells
from probe.heads.shared.cell_paths import CellPath, CellPaths
from probe.heads.shared.head import FloatArray, check_lazy, is_lazy
from probe.heads.shared.logistic import penalties
from probe.heads.shared.multinomial import MultinomialPath, validate


class GridProbe(MultinomialPath):
    """`LinearProbe` on each of G features of the same rows, all of them solved together; the best one predicts.

    Reads `cells`, (N, G, D): each of G cells of a grid (a layer at a position, an attention head) is a (N, D) feature
    with a probe of its own, the same that `LinearProbe` fits there, to the same tolerance. Each cell chooses its C on
    the validation rows (accuracy, then log loss, then the smaller C); the head predicts with the cell that is best
    there (accuracy, then log loss, then the first). The best of G cells on a few rows is partly the luckiest: its
    score on test rows is what it is good for, its score on validation rows is not.

    With several labels per row each cell is what `linear` is there (mAP chooses), of numbers what `ridge` is, with its
    17 penalties; then cells are fitted one by one.

    Args:
        Cs, scaling, refit, max_iter, random_state, device: As of `LinearProbe`.
        tol: As there; a tenth of its default, so that no cell ends above scikit-learn's objective.

    Attributes:
        names_: G names of the cells; their numbers where the rows do not say.
        cell_: Number of the chosen cell.
        C_: Its C.
        coef_, intercept_: Its coefficients, (K, D), or (1, D) for two classes, and intercepts.
        cell_coefs_: (G, K, D) of all cells.
        cell_intercepts_: (G, K) likewise.
        cell_Cs_: (G,) the C of each cell.
        cell_scores_: (G,) accuracies on the rows that were chosen on; absent where nothing was searched.
        n_iter_: (G, P) Newton steps on the path of P values of C.
        grad_norms_: (G, P) norms of the gradients there, as of `LinearProbe`.
        selection_: What was searched for the chosen cell, and as `cell` which that is; absent where nothing was.
    """

    consumes: ClassVar[tuple[str, ...]] = ("cells",)
    recipe: ClassVar[str] = "2"
    few_validation_rows: ClassVar[int] = 200
    names_: list[str]
    cell_: int
    cell_coefs_: FloatArray
    cell_intercepts_: FloatArray
    cell_Cs_: FloatArray
    cell_scores_: FloatArray

    fits: ClassVar[tuple[str, ...]] = ("one_class", "labels", "number")

    def __init__(
        self,
        Cs: int | Sequence[float] = 10,
        scaling: str = "none",
        refit: bool = True,
        tol: float = 1e-7,
        max_iter: int = 100,
        random_state: int | None = 0,
        device: str = "auto",
    ):
        super().__init__(Cs, scaling, refit, tol, max_iter, random_state, device)

    def for_target(self, target: str) -> AnyHead:
        if target == "one_class":
            return self
        given = self.get_params(deep=False)
        if target == "labels":
            return LinearLabelCells(**given)
        odd = [n for n in ("Cs", "scaling", "tol", "max_iter", "refit") if given[n] != type(self)().get_params()[n]]
        if odd:
            raise DoesNotFit(
                f"head grid is ridge regression on each cell where numbers are predicted, {', '.join(odd)} "
                f"{'are' if len(odd) > 1 else 'is'} of classes: leave it out"
            )
        return RidgeCells(device=self.device)

    def _check_rows(self, X: Any, *, reset: bool) -> Any:
        X = plain(X, "cells", lazy=True)
        X = X if is_lazy(X) else np.asarray(X)
        if X.ndim != 3:
            raise InputError(
                f"cells has shape {tuple(X.shape)}: give (rows, cells, width), the features of each cell beside another"
            )
        return super()._check_rows(X, reset=reset)

    def _n_candidates(self, X: Any) -> int:
        return len(self.Cs_) * int(X.shape[1])

    def _forget(self) -> None:
        super()._forget()
        self.__dict__.pop("cell_scores_", None)

    def fit_on_folds(self, X: Any, y: ArrayLike, folds: IntArray) -> Self:
        """Chooses by mean accuracy over folds of the rows, then fits all cells on all rows.

        Args:
            X: (N, G, D).
            y: (N,) labels.
            folds: (N,) the fold in which each row is held out, -1 for never.
        """
        self.check_parameters()
        X, codes = self._check_fit(X, y)
        check_lazy(X)
        self._forget()
        self.Cs_, self.names_ = np.sort(penalties(self.Cs)), cell_names(X)
        numbers = np.unique(folds[folds >= 0])
        right, lost = np.zeros((2, X.shape[1], len(self.Cs_)))
        kept: dict[tuple[int, int], CellPath] = {}
        for fold in numbers.tolist():
            inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            for path in self._paths(RowSubset(X, outside), codes[outside]):
                found = self._scored(path, RowSubset(cell_of(X, path.cell), inside), codes[inside])
                right[path.cell] += found[0] / len(inside) / len(numbers)
                lost[path.cell] += found[1]
                kept[fold, path.cell] = path
        places = self._choose_cells(right, lost) if len(numbers) else self._middle(X)
        self._take(list(self._paths(X, codes, self.cell_Cs_[None])), np.zeros(X.shape[1], dtype=int))
        on = f"{len(numbers)} folds of the training rows" if len(numbers) else "nothing, for want of rows"
        self._tell(on, right[self.cell_] if len(numbers) else None)
        self._of_folds = {fold: self._at(kept[fold, self.cell_], places[self.cell_]) for fold in numbers.tolist()}
        return self.set_params(Cs=[self.C_])

    def _at(self, path: CellPath, place: int) -> Self:
        """This head with the coefficients that a fold gave the chosen cell."""
        found = copy.copy(self)
        found.cell_coefs_, found.cell_intercepts_ = self.cell_coefs_.copy(), self.cell_intercepts_.copy()
        found.cell_coefs_[self.cell_], found.cell_intercepts_[self.cell_] = path.coefs[place], path.intercepts[place]
        return found

    def _fit_path(self, X: Any, codes: IntArray, X_val: Any, val_codes: IntArray | None) -> Self:
        self.Cs_, self.names_ = np.sort(self.Cs_), cell_names(X)
        right, lost = np.zeros((2, X.shape[1], len(self.Cs_)))
        paths = []
        for path in self._paths(X, codes):
            paths.append(path)
            if val_codes is not None:
                right[path.cell], lost[path.cell] = self._scored(path, cell_of(X_val, path.cell), val_codes)
        if val_codes is None:
            self._take(paths, self._middle(X))
            return self
        right /= len(val_codes)
        self._take(paths, self._choose_cells(right, lost))
        self._tell("validation", right[self.cell_])
        self._keep_choice()
        if self.refit:
            start = (self.cell_coefs_, self.cell_intercepts_) if np.isfinite(self.cell_intercepts_).all() else None
            every, labels = RowStack([X, X_val]), np.concatenate([codes, val_codes])
            again = self._paths(every, labels, self.cell_Cs_[None], start)
            iterations, norms = self.n_iter_, self.grad_norms_
            self._take(list(again), np.zeros(X.shape[1], dtype=int))
            self.n_iter_, self.grad_norms_ = iterations, norms
        return self

    def _paths(self, X: Any, codes: IntArray, Cs: FloatArray | None = None, start: Any = None) -> Any:
        problems = CellPaths(len(self.classes_), self.scaling, self.tol, self.max_iter, resolve_device(self.device))
        return problems.solve(X, codes, np.tile(self.Cs_[:, None], X.shape[1]) if Cs is None else Cs, start)

    def _scored(self, path: CellPath, X: Any, codes: IntArray) -> tuple[FloatArray, FloatArray]:
        return validate(X, codes, path.coefs, path.intercepts, self.scaling, resolve_device(self.device))

    def _middle(self, X: Any) -> IntArray:
        """The C nearest to 1, in ratio, for all cells, of which the first is taken."""
        best = int(np.abs(np.log(self.Cs_)).argmin())
        self.cell_, self.cell_Cs_ = 0, np.full(X.shape[1], self.Cs_[best])
        return np.full(X.shape[1], best)

    def _choose_cells(self, right: FloatArray, lost: FloatArray) -> IntArray:
        """Sets the cell and the Cs from accuracies and losses (G, P); the places of the Cs."""
        places = np.array(
            [np.lexsort((self.Cs_, losses, -scores))[0] for scores, losses in zip(right, lost, strict=True)]
        )
        own = np.arange(len(places)), places
        self.cell_scores_, self.cell_Cs_ = right[own], self.Cs_[places]
        self.cell_ = int(np.lexsort((np.arange(len(places)), lost[own], -right[own]))[0])
        return places

    def _take(self, paths: list[CellPath], places: IntArray) -> None:
        """Keeps one C of each cell, and of the chosen cell what predicts."""
        self.cell_coefs_ = np.stack([path.coefs[place] for path, place in zip(paths, places, strict=True)])
        self.cell_intercepts_ = np.stack([path.intercepts[place] for path, place in zip(paths, places, strict=True)])
        self.n_iter_ = np.array([[s.n_iter for s in path.solutions] for path in paths])
        norms = np.array([[s.gradient_norm for s in path.solutions] for path in paths])
        self.grad_norms_ = norms
        self.C_ = float(self.cell_Cs_[self.cell_])
        self.coef_, self.intercept_ = self.cell_coefs_[self.cell_], self.cell_intercepts_[self.cell_]

    def _tell(self, on: str, scores: FloatArray | None) -> None:
        scored = [] if scores is None else zip(self.Cs_.tolist(), scores.tolist(), strict=True)
        self.selection_ = {
            "on": on,
            "searched": [{"C": C, "score": score} for C, score in scored],
            "chosen": {"C": self.C_},
            "cell": self.names_[self.cell_],
        }

    def of_cell(self, cell: int) -> Self:
        """The head as it would be had it chosen another cell."""
        check_is_fitted(self)
        found = copy.copy(self)
        found.cell_, found.C_ = cell, float(self.cell_Cs_[cell])
        found.coef_, found.intercept_ = self.cell_coefs_[cell], self.cell_intercepts_[cell]
        return found

    def cell_logits(self, X: Any, cell: int) -> FloatArray:
        """(N, K) logits of one of the cells, as `logits` gives those of the chosen one."""
        check_is_fitted(self)
        part = cell_of(self._check_rows(X, reset=False), cell)
        coef, intercept = self.cell_coefs_[cell], self.cell_intercepts_[cell]
        return np.concatenate([self._linear(np.asarray(part[rows]), coef, intercept) for rows in row_chunks(part)])

    def logits(self, X: Any) -> NDArray[Any]:
        """Those of the chosen cell, (N, K); the others are not read."""
        check_is_fitted(self)
        return self.cell_logits(X, self.cell_)
