"""Kernel ridge regression with a Gaussian or a Laplace kernel."""

from __future__ import annotations

from typing import ClassVar

from probe.heads.shared.base import AnyHead
from probe.heads.shared.distance_kernels import DistanceKernel
from probe.heads.shared.kernel_head import KernelHead
from probe.heads.shared.kernel_numbers import KernelNumbers


class KernelProbe(DistanceKernel, KernelHead):
    """Least squares on +-1 with a kernel: minimises sum_i |y_i - f(x_i) - b|^2 + alpha |f|^2, b without penalty.

    k(x, z) = exp(-d^2 / (2 (w m)^2)) (`gaussian`) or exp(-d / (w m)) (`laplace`), d the Euclidean distance, m the
    median distance of the training rows and w the width. The larger the width, the more alike it is to `ridge`.

    Every penalty comes from one eigendecomposition of the kernel between the rows, for each width. Above `max_exact`
    rows, landmarks drawn uniformly stand for them (Nyström). Width and penalty are those of best accuracy on the
    validation rows, ties go to the smaller squared error; they are then fitted on both sets of rows. Without validation
    rows, a stratified tenth stands in for them; where fewer than 200 rows validate, a run chooses on 5 folds of these
    and the training rows instead. Scores are regressions, no log-probabilities. Features in double
    precision and the kernel, up to `max_exact` squared, are held in memory.

    Of numbers to predict it is kernel ridge regression, which chooses by squared error: see `KernelNumbers`.

    Args:
        kernel: `gaussian` or `laplace`.
        widths: Multiples of the median distance to choose from.
        alphas: Penalties to choose from, or how many, log-spaced between 1e-8 and 1e8.
        max_exact: Up to so many rows, validation rows included, all are kept.
        n_landmarks: Rows that are kept where there are more.
        refit: Whether the chosen candidate is fitted again on training and validation rows.
        random_state: Seeds the landmarks and, without validation rows, the choice of a tenth as such.
        device: `cpu`, `cuda`, or `auto`.

    Attributes:
        rows_, coef_, intercept_: (m, D), (m, K), (K,): scores are k(x, rows_) coef_ + intercept_.
        median_: Median distance of the training rows.
        width_, alpha_: The candidate chosen.
        selection_: What was searched; absent where there was one candidate.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "number")

    def for_target(self, target: str) -> AnyHead:
        return KernelNumbers(**self.get_params(deep=False)) if target == "number" else self
