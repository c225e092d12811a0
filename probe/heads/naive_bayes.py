"""Gaussian naive Bayes on features, with one diagonal variance for all classes or one per class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray
from probe.heads.shared.moments import ClassMoments, MomentsHead
from probe.heads.shared.one_pass import Second


class NaiveBayes(MomentsHead):
    """Gaussian naive Bayes: features are independent within a class.

    With pi_k the share of class k, mu_k its mean and v its variances, the score of class k is
    log pi_k - 1/2 sum_i ((x_i - mu_ki)^2 / v_ki + log v_ki). `pooled` shares v_i = sum_k pi_k v_ki between the
    classes, which makes the rule linear in x: `coef_` and `intercept_`, the same hypotheses as logistic regression.
    A class without rows is never predicted. A feature that never varies is left out.

    Source: Zheng, Wu, Bao, Cao, Li, Zhu, "Revisiting Discriminative vs. Generative Classifiers: Theory and
    Implications", 2023, arXiv 2302.02334: pooled variance, features scaled to [0, 1]. Departures: `var_smoothing` is
    relative to the largest variance, as in scikit-learn's GaussianNB, where the paper's code adds 1e-9; a batch of
    `partial_fit` may lack a class; scaling and smoothing follow all rows seen so far, not the latest batch.

    Args:
        variance: `pooled` or `per_class`.
        var_smoothing: This share of the largest variance of a (scaled) feature is added to every variance.
        scaling: `minmax`, `standard` or `none`. Scores do not depend on the scale of a feature except through
            `var_smoothing`, so scaling is folded into what is added: features of any unit are smoothed alike.
        device: Where the pass over the rows is computed; `auto` is CUDA when there is one.

    Attributes:
        theta_: (K, D) class means.
        var_: Smoothed variances in the features' own units, (D,) when pooled, else (K, D).
        class_count_: (K,) rows per class.
        coef_, intercept_: (K, D) and (K,), present when pooled. Terms shared by all classes are left out.
    """

    theta_: NDArray[np.float64]
    var_: NDArray[np.float64]

    def __init__(
        self,
        variance: str = "pooled",
        var_smoothing: float = 1e-9,
        scaling: str = "minmax",
        device: str = "auto",
    ):
        self.variance = variance
        self.var_smoothing = var_smoothing
        self.scaling = scaling
        self.device = device

    def check_parameters(self) -> None:
        if self.variance not in ("pooled", "per_class"):
            raise InputError(f"variance={self.variance!r} is unknown: set variance to pooled or per_class")
        if self.scaling not in ("minmax", "standard", "none"):
            raise InputError(f"scaling={self.scaling!r} is unknown: set scaling to minmax, standard or none")
        if not self.var_smoothing >= 0:
            raise InputError(f"var_smoothing={self.var_smoothing} is no share: set it to 0 or more, such as 1e-9")

    def _new_moments(self) -> ClassMoments:
        self.check_parameters()
        second: Second = "diagonal" if self.variance == "pooled" else "class_diagonal"
        return ClassMoments(
            len(self.classes_),
            self.n_features_in_,
            second=second,
            extremes=self.scaling == "minmax",
            device=self.device,
        )

    def _solve(self, moments: ClassMoments) -> None:
        pooled = self.variance == "pooled"
        n_rows = moments.n_rows if pooled else np.maximum(moments.counts, 1)[:, None]
        self.theta_ = moments.means
        self.var_ = moments.within() / n_rows + self._smoothing(moments)
        self.varies_ = moments.total() > 0
        flat = (self.var_ == 0) & self.varies_ & (True if pooled else moments.counts[:, None] > 0)
        if flat.any():
            raise InputError(
                f"{int(flat.any(axis=0).sum() if not pooled else flat.sum())} features have no variance within a class "
                f"and var_smoothing={self.var_smoothing} adds none: set var_smoothing above 0, such as 1e-9"
            )
        with np.errstate(divide="ignore"):
            self.class_log_prior_ = np.log(moments.counts / moments.n_rows)
        self.centre_ = moments.mean
        if pooled:
            self._set_linear_form()

    def _smoothing(self, moments: ClassMoments) -> NDArray[np.float64]:
        """(D,) what is added to the variances, in the features' own units."""
        variances = moments.total() / moments.n_rows
        if self.scaling == "minmax":
            scale = moments.high - moments.low
        else:
            scale = np.sqrt(variances) if self.scaling == "standard" else np.ones_like(variances)
        scale = np.where(scale > 0, scale, 1)
        return self.var_smoothing * (variances / scale**2).max() * scale**2

    def _precisions(self) -> NDArray[np.float64]:
        return np.where(self.varies_, 1 / np.where(self.var_ > 0, self.var_, 1), 0)

    def _set_linear_form(self) -> None:
        # Means about the common one: the difference is shared by all classes, and large offsets keep their digits.
        seen = self.class_count_ > 0
        means = np.where(seen[:, None], self.theta_ - self.centre_, 0)
        precisions = self._precisions()
        self.coef_ = means * precisions
        self.intercept_ = self.class_log_prior_ - means**2 @ precisions / 2 - self.coef_ @ self.centre_

    def _logits(self, X: Any) -> FloatArray:
        rows = np.asarray(X, dtype=np.float64)
        if self.variance == "pooled":
            return rows @ self.coef_.T + self.intercept_
        rows = rows - self.centre_
        means, precisions = self.theta_ - self.centre_, self._precisions()
        constants = (means**2 * precisions - np.log(np.where(precisions > 0, precisions, 1))).sum(axis=1)
        return rows @ (means * precisions).T - (rows**2 @ precisions.T + constants) / 2 + self.class_log_prior_
