"""Linear support vector machines over a whole path of penalties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from probe.core.base import IntArray
from probe.heads.linalg.binary import SquaredHinges
from probe.heads.linalg.newton import Solution, solve_path, warn_unconverged
from probe.heads.shared.head import FloatArray
from probe.heads.shared.multinomial import MultinomialPath


class LinearSVM(MultinomialPath):
    """One-vs-rest linear SVM with squared hinges, C chosen on validation rows among a path solved as one problem.

    Minimises for each class C * sum_i max(0, 1 - s_i (w x_i + b))^2 + 1/2 ||w||^2, s_i = 1 for its rows and -1 for the
    others, as scikit-learn's `LinearSVC` does; with two classes once, for the second. Departure from LIBLINEAR (Fan et
    al., 2008), whose objective is this one: the intercept has no penalty. All classes and all C are one problem in one
    eigenbasis of the rows, solved by Newton steps that start from the line through the last two solutions.

    With `validation=(X_val, y_val)`, C is the one of best accuracy there; ties go to the lower log loss of the scores,
    then to the smaller C. The head is then fitted again on both sets of rows. Without, a stratified tenth of the rows
    stands in for them. A single C is fitted on all rows. Where fewer than 200 rows validate, a run chooses C on 5 folds
    of these and the training rows instead. Scores are margins, no log-probabilities.

    Args:
        Cs: Inverse penalties, or how many between 1e-4 and 1e4, evenly in log C.
        scaling: `none`; `standard`, features to mean 0 and variance 1 over the fitted rows, folded back into `coef_`
            (the penalty acts on scaled features); `l2`, rows to length 1, at prediction too.
        refit: Whether to fit again on training and validation rows.
        tol: The solver stops where the objective, divided by C and the number of rows, is estimated to be within
            this of its minimum, and within a thousandth of it.
        max_iter: Newton steps per C.
        random_state: Seeds the choice of validation rows where none are given.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        Cs_: (n_Cs,) the path, in the order given.
        coefs_path_: (n_Cs, K, D) solutions on the training rows; one row instead of K for two classes.
        intercepts_path_: (n_Cs, K) likewise.
        scores_: (n_Cs,) validation accuracies; absent where nothing was searched.
        n_iter_: (n_Cs,) Newton steps.
        grad_norms_: (n_Cs,) Euclidean norms of the objective's gradient. The objective is 1-strongly convex in W:
            with balanced intercepts it is at most grad_norm^2 / 2 above its minimum.
        C_: The chosen C.
        coef_: (K, D), or (1, D) for two classes.
        intercept_: (K,) or (1,).
        selection_: What was searched; absent where nothing was.
    """

    norm_of_two: ClassVar[float] = 1.0
    few_validation_rows: ClassVar[int] = 200
    log_probabilities = False

    def __init__(
        self,
        Cs: int | Sequence[float] = 10,
        scaling: str = "none",
        refit: bool = True,
        tol: float = 1e-8,
        max_iter: int = 100,
        random_state: int | None = 0,
        device: str = "auto",
    ):
        super().__init__(Cs, scaling, refit, tol, max_iter, random_state, device)

    def _solve(
        self, X: object, codes: IntArray, Cs: FloatArray, start: tuple[FloatArray, FloatArray] | None = None
    ) -> tuple[FloatArray, FloatArray, list[Solution]]:
        """Coefficients, intercepts and solutions for ascending Cs; of a class without rows 0 and -inf."""
        K, present = len(self.classes_), np.unique(codes)
        solved = present if K > 2 else np.array([1])
        features = self._rotated(X)
        loss = SquaredHinges(features, codes[:, None] == solved)
        theta = None if start is None else features.rotate(*start)
        solutions = solve_path(loss, Cs.tolist(), tol=self.tol, max_iter=self.max_iter, start=theta)
        warn_unconverged(solutions, Cs.tolist(), bounded=True)
        n_scores = K if K > 2 else 1
        dtype = np.float64 if features.dtype.itemsize == 8 else np.float32
        coefs = np.zeros((len(Cs), n_scores, self.n_features_in_), dtype=dtype)
        intercepts = np.full((len(Cs), n_scores), -np.inf, dtype=dtype)
        places = solved if K > 2 else np.array([0])
        for i, solution in enumerate(solutions):
            coefs[i, places], intercepts[i, places] = features.unrotate(solution.theta)
        return coefs, intercepts, solutions
