"""Logistic regression over a whole path of penalties: the tuned linear probe."""

from __future__ import annotations

from typing import ClassVar

from probe.heads.shared.head import Head
from probe.heads.shared.multinomial import MultinomialPath
from probe.heads.shared.one_vs_rest import OneVsRestLinear


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
    few_validation_rows: ClassVar[int] = 200

    def for_target(self, target: str) -> Head:
        return OneVsRestLinear(**self.get_params(deep=False)) if target == "labels" else self
