"""Logistic regression over a whole path of penalties: the tuned linear probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.errors import DoesNotFit, InputError
from probe.heads.linalg.multinomial import MultinomialLoss
from probe.heads.linalg.newton import Solution
from probe.heads.linalg.weighted import WeightedMultinomialLoss
from probe.heads.shared.frequencies import WEIGHTS, class_weights
from probe.heads.shared.head import FloatArray, Head
from probe.heads.shared.multinomial import MultinomialPath
from probe.heads.shared.one_vs_rest import OneVsRestLinear

if TYPE_CHECKING:
    from torch import Tensor


class LinearProbe(MultinomialPath):
    """Multinomial logistic regression, C chosen on validation rows among a path solved as one problem.

    Minimises C * sum_i -log softmax(W x_i + b)_{y_i} + 1/2 ||W||^2, intercept b unpenalised, as scikit-learn's
    `LogisticRegression` does; with two classes its sigmoid form with one row of coefficients. The same problem in
    torch terms, mean cross-entropy + lambda/2 ||W||^2, has lambda = 1 / (C N): one C is another penalty for another N.

    With `validation=(X_val, y_val)`, C is the one of best accuracy there; ties go to the lower log loss, then to the
    smaller C. The head is then fitted again on both sets of rows, starting from the chosen solution. Without, a
    stratified tenth of the rows stands in for them (at least one row of a class, never its only one). A single C is
    not searched: it is fitted on all rows. Where no row can be spared, because each class has one, C is the one of
    `Cs` nearest to 1, in ratio. Where fewer than 200 rows validate, a run chooses C on 5 folds of these and the
    training rows instead.

    For classes of unequal size, `class_weight` multiplies each row's loss, and `logit_adjustment` t trains with logits
    W x + b + t log pi, pi the shares of the classes: the intercept being free, that is the same W with t log pi taken
    from b. Both stay convex. When C is chosen each class counts alike then, or as given weights say, in accuracy and
    log loss. Sources: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019, arXiv 1901.05555;
    Menon et al., "Long-tail Learning via Logit Adjustment", 2021, arXiv 2007.07314.

    A class that only validation rows have is known after the refit; on the path its coefficients are 0 and its
    intercept -inf, their limit.

    Args:
        Cs: Inverse penalties, or how many between 1e-4 and 1e4, evenly in log C.
        scaling: `none`; `standard`, features to mean 0 and variance 1 over the fitted rows, folded back into `coef_`
            (the penalty acts on scaled features); `l2`, rows to length 1, at prediction too.
        refit: Whether to fit again on training and validation rows.
        tol: The solver stops where the objective, divided by C and the number of rows, is estimated to be within
            this of its minimum (a difference of mean cross-entropy, in nats), and within a thousandth of it.
        max_iter: Newton steps per C.
        random_state: Seeds the choice of validation rows where none are given.
        device: `cpu`, `cuda`, or `auto`.
        class_weight: `none`; `balanced`, N / (K n_k); `effective`, in proportion to (1 - b) / (1 - b^n_k) with b =
            0.9999; on average 1 over the rows. Or a weight for each class, as in `{0: 1, 1: 10}`, 1 where none is
            given.
        logit_adjustment: t, from 0 on; 1 is the share of the classes itself.

    Attributes:
        Cs_: (n_Cs,) the path, in the order given.
        coefs_path_: (n_Cs, K, D) solutions on the training rows; one row instead of K for two classes.
        intercepts_path_: (n_Cs, K) likewise.
        scores_: (n_Cs,) validation accuracies; absent where nothing was searched without validation rows.
        n_iter_: (n_Cs,) Newton steps.
        grad_norms_: (n_Cs,) Euclidean norms of the objective's gradient. The objective is 1-strongly convex in W:
            with balanced intercepts it is at most grad_norm^2 / 2 above its minimum.
        C_: The chosen C.
        coef_: (K, D), or (1, D) for two classes.
        intercept_: (K,) or (1,).
        selection_: What was searched; absent where nothing was.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "labels")
    reads_unknown: ClassVar[bool] = True
    few_validation_rows: ClassVar[int] = 200

    def __init__(
        self,
        Cs: int | Sequence[float] = 10,
        scaling: str = "none",
        refit: bool = True,
        tol: float = 1e-6,
        max_iter: int = 100,
        random_state: int | None = 0,
        device: str = "auto",
        class_weight: str | Mapping[Any, float] = "none",
        logit_adjustment: float = 0.0,
    ):
        super().__init__(Cs, scaling, refit, tol, max_iter, random_state, device)
        self.class_weight = class_weight
        self.logit_adjustment = logit_adjustment

    @property
    def _balances(self) -> bool:
        return self.class_weight != "none" or self.logit_adjustment != 0

    def for_target(self, target: str) -> Head:
        if target != "labels":
            return self
        if self._balances:
            raise DoesNotFit(
                f"class_weight={self.class_weight} and logit_adjustment={self.logit_adjustment:g} are for one class "
                "per row, not for several labels: leave them out"
            )
        given = self.get_params(deep=False)
        return OneVsRestLinear(**{n: v for n, v in given.items() if n not in ("class_weight", "logit_adjustment")})

    def check_parameters(self) -> None:
        super().check_parameters()
        given = self.class_weight
        if not (all(w > 0 for w in given.values()) if isinstance(given, Mapping) else given in WEIGHTS):
            raise InputError(
                f"class_weight is {given!r}, expected one of {', '.join(WEIGHTS)}, or weights above 0 of classes: set "
                "head.class_weight"
            )
        if not self.logit_adjustment >= 0:
            raise InputError(f"logit_adjustment is {self.logit_adjustment!r}, expected 0 or more: set 1, say")

    def _problem(self, X: Any, codes: IntArray) -> tuple[IntArray, MultinomialLoss]:
        if self.class_weight == "none":
            return super()._problem(X, codes)
        present, codes, counts = np.unique(codes, return_inverse=True, return_counts=True)
        weights = self._class_weights(self.classes_[present], counts, self.class_weight)
        return present, WeightedMultinomialLoss(self._rotated(X), codes, weights)

    def _solve(
        self, X: Any, codes: IntArray, Cs: FloatArray, start: tuple[FloatArray, FloatArray] | None = None
    ) -> tuple[FloatArray, FloatArray, list[Solution]]:
        coefs, intercepts, solutions = super()._solve(X, codes, Cs, start)
        if self.logit_adjustment:
            counts = np.bincount(codes, minlength=len(self.classes_))
            shift = self.logit_adjustment * np.log(np.maximum(counts, 1) / len(codes))
            intercepts -= (np.diff(shift) if len(shift) == 2 else shift).astype(intercepts.dtype)
        return coefs, intercepts, solutions

    def _row_weights(self, codes: IntArray) -> Tensor | None:
        import torch

        if not self._balances:
            return None
        present, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
        kind = self.class_weight if isinstance(self.class_weight, Mapping) else "balanced"
        weights = self._class_weights(self.classes_[present], counts, kind)[place]
        if isinstance(kind, Mapping):
            weights[codes < 0] = 1.0  # of a class that only validation rows have
        return torch.from_numpy(weights / weights.mean())

    @staticmethod
    def _class_weights(classes: NDArray[Any], counts: IntArray, kind: str | Mapping[Any, float]) -> FloatArray:
        if isinstance(kind, str):
            return class_weights(counts, kind)
        by_name = {str(label): weight for label, weight in kind.items()}  # as a saved head has them
        return np.array([by_name.get(str(label), 1.0) for label in classes.tolist()], dtype=np.float64)
