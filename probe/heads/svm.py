"""Linear support vector machines over a whole path of penalties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.heads.linalg.active import ACTIVE_BYTES, ActiveCurvature
from probe.heads.linalg.binary import SquaredHinges
from probe.heads.linalg.eigen import HOLD_BYTES
from probe.heads.linalg.losses import LOGITS_BYTES
from probe.heads.linalg.newton import Solution, solve_path, warn_unconverged
from probe.heads.shared.crammer_singer import check_memory, needed_bytes, solve_crammer_singer
from probe.heads.shared.forecast import DOUBLE, SINGLE, Forecast, Shapes
from probe.heads.shared.head import FloatArray
from probe.heads.shared.multinomial import MultinomialPath

USUAL = {"ovr": (1e-8, 100), "crammer_singer": (1e-4, 1000)}
"""Tolerance and number of steps by `multi_class`, where neither is given."""
ON_A_LINE, SIDES = 5 * DOUBLE, 2
"""Bytes of one score of one row: while the best length of a step is looked for, and to say on which side it is."""


class LinearSVM(MultinomialPath):
    """Linear SVM, its C chosen on validation rows among a path: one class against the rest, or all together.

    `ovr`, one-vs-rest, minimises for each class C * sum_i max(0, 1 - s_i (w x_i + b))^2 + 1/2 ||w||^2, s_i = 1 for its
    rows and -1 for the others, as scikit-learn's `LinearSVC` does; with two classes once, for the second. Departure
    from LIBLINEAR (Fan et al., 2008), whose objective is this one: the intercept has no penalty. All classes and all C
    are one problem in one eigenbasis of the rows, solved by Newton steps that start from the line through the last two
    solutions.

    `crammer_singer` minimises C * sum_i max(0, max_k (1 + s_ik - s_iy)) + 1/2 (||W||^2 + ||b||^2) over the scores
    s_i = W (x_i - mean) + b, k over the classes other than y (Crammer and Singer, "On the algorithmic implementation of
    multiclass kernel-based vector machines", 2001). LIBLINEAR solves it on one core, one C after another (Keerthi et
    al., "A sequential dual method for large scale multi-class linear SVMs", 2008), and as it has it hinges are not
    squared and intercepts have a penalty. It takes far longer, the longer the larger C, and at most `max_iter` passes.

    With `validation=(X_val, y_val)`, C is the one of best accuracy there; ties go to the lower log loss of the scores,
    then to the smaller C. The head is then fitted again on both sets of rows. Without, a stratified tenth of the rows
    stands in for them. A single C is fitted on all rows. Where fewer than 200 rows validate, a run chooses C on 5 folds
    of these and the training rows instead. Scores are margins, no log-probabilities.

    Args:
        Cs: Inverse penalties, or how many between 1e-4 and 1e4, evenly in log C.
        multi_class: `ovr` or `crammer_singer`.
        scaling: `none`; `standard`, features to mean 0 and variance 1 over the fitted rows, folded back into `coef_`
            (the penalty acts on scaled features); `l2`, rows to length 1, at prediction too.
        refit: Whether to fit again on training and validation rows.
        tol: The solver stops where the objective, divided by C and the number of rows, is estimated to be within
            this of its minimum, and of `ovr` within a thousandth of it. None: 1e-8, of `crammer_singer` 1e-4.
        max_iter: Newton steps per C, of `crammer_singer` passes over the rows. None: 100, or 1000 passes.
        random_state: Seeds the choice of validation rows where none are given, and the order of LIBLINEAR's steps.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        Cs_: (n_Cs,) the path, in the order given.
        coefs_path_: (n_Cs, K, D) solutions on the training rows; one row instead of K for two classes.
        intercepts_path_: (n_Cs, K) likewise.
        scores_: (n_Cs,) validation accuracies; absent where nothing was searched.
        n_iter_: (n_Cs,) Newton steps, or passes.
        grad_norms_: (n_Cs,) Euclidean norms of the objective's gradient, of `ovr`. The objective is 1-strongly convex
            in W: with balanced intercepts it is at most grad_norm^2 / 2 above its minimum.
        C_: The chosen C.
        coef_: (K, D), or (1, D) for two classes.
        intercept_: (K,) or (1,).
        selection_: What was searched; absent where nothing was.
    """

    norm_of_two: ClassVar[float] = 1.0
    few_validation_rows: ClassVar[int] = 200
    log_probabilities = False

    tol: Any
    max_iter: Any

    def __init__(
        self,
        Cs: int | Sequence[float] = 10,
        multi_class: str = "ovr",
        scaling: str = "none",
        refit: bool = True,
        tol: float | None = None,
        max_iter: int | None = None,
        random_state: int | None = 0,
        device: str = "auto",
    ):
        self.Cs = Cs
        self.multi_class = multi_class
        self.scaling = scaling
        self.refit = refit
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device

    def check_parameters(self) -> None:
        if self.multi_class not in USUAL:
            raise InputError(
                f"multi_class is {self.multi_class!r}, expected {' or '.join(USUAL)}: set head.multi_class=ovr"
            )
        super().check_parameters()

    def forecast(self, n_rows: int, shapes: Shapes, n_classes: int) -> Forecast:
        found = super().forecast(n_rows, shapes, n_classes)
        # How many passes LIBLINEAR makes hangs on C and on the rows.
        return replace(found, products=math.nan) if self.multi_class == "crammer_singer" else found

    def _solving_bytes(self, n_rows: int, rank: int, n_scores: int) -> int:
        rows = n_rows * rank
        if self.multi_class == "crammer_singer":
            return (SINGLE + DOUBLE) * rows + needed_bytes(n_rows, rank, n_scores)
        n_scores = n_scores if n_scores > 2 else 1
        scores, curvature = n_rows * n_scores, ActiveCurvature.n_bytes(rank, n_scores, SINGLE)
        bent = curvature * (SINGLE * rows <= HOLD_BYTES and curvature <= ACTIVE_BYTES)
        lines = ON_A_LINE * scores if SINGLE * scores <= LOGITS_BYTES else 0
        return super()._solving_bytes(n_rows, rank, n_scores) + SIDES * scores + max(bent, lines)

    def _limits(self) -> dict[str, Any]:
        tol, max_iter = USUAL[self.multi_class]
        return {
            "tol": tol if self.tol is None else self.tol,
            "max_iter": max_iter if self.max_iter is None else self.max_iter,
        }

    def _keep_steps(self, solutions: list[Solution], places: IntArray) -> None:
        super()._keep_steps(solutions, places)
        if self.multi_class == "crammer_singer":
            del self.grad_norms_

    def _solve(
        self, X: Any, codes: IntArray, Cs: FloatArray, start: tuple[FloatArray, FloatArray] | None = None
    ) -> tuple[FloatArray, FloatArray, list[Solution]]:
        """Coefficients, intercepts and solutions for ascending Cs; of a class without rows 0 and -inf."""
        together = self.multi_class == "crammer_singer"
        return self._solve_together(X, codes, Cs) if together else self._solve_apart(X, codes, Cs, start)

    def _solve_apart(
        self, X: Any, codes: IntArray, Cs: FloatArray, start: tuple[FloatArray, FloatArray] | None
    ) -> tuple[FloatArray, FloatArray, list[Solution]]:
        """Each class against the rest, as one problem."""
        K, present = len(self.classes_), np.unique(codes)
        solved = present if K > 2 else np.array([1])
        features = self._rotated(X)
        loss = SquaredHinges(features, codes[:, None] == solved)
        theta = None if start is None else features.rotate(*start)
        solutions = solve_path(loss, Cs.tolist(), **self._limits(), start=theta)
        warn_unconverged(solutions, Cs.tolist(), bounded=True)
        n_scores = K if K > 2 else 1
        dtype = np.float64 if features.dtype.itemsize == 8 else np.float32
        coefs = np.zeros((len(Cs), n_scores, self.n_features_in_), dtype=dtype)
        intercepts = np.full((len(Cs), n_scores), -np.inf, dtype=dtype)
        places = solved if K > 2 else np.array([0])
        for i, solution in enumerate(solutions):
            coefs[i, places], intercepts[i, places] = features.unrotate(solution.theta)
        return coefs, intercepts, solutions

    def _solve_together(self, X: Any, codes: IntArray, Cs: FloatArray) -> tuple[FloatArray, FloatArray, list[Solution]]:
        """All classes by one sum of hinges."""
        present, codes = np.unique(codes, return_inverse=True)
        check_memory(len(X), min(len(X), X.shape[1]), len(present))
        features = self._rotated(X)
        rows = features.chunk(slice(0, len(codes))).double().cpu().numpy()
        solutions = solve_crammer_singer(rows, codes, Cs, **self._limits(), random_state=self.random_state)
        dtype = np.float64 if features.dtype.itemsize == 8 else np.float32
        coefs = np.zeros((len(Cs), len(self.classes_), self.n_features_in_), dtype=dtype)
        intercepts = np.full(coefs.shape[:2], -np.inf, dtype=dtype)
        for i, solution in enumerate(solutions):
            theta = solution.theta.to(features.eigenvalues.device)
            theta = torch.cat([features.leave(theta[:, :-1]), theta[:, -1:]], dim=1)
            coefs[i, present], intercepts[i, present] = features.unrotate(theta)
        if len(self.classes_) == 2:
            coefs, intercepts = np.diff(coefs, axis=1), np.diff(intercepts, axis=1)
        return coefs, intercepts, solutions
