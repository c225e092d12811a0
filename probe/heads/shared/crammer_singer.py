"""Support vector machines of all classes together, after Crammer and Singer: LIBLINEAR solves one penalty at a time."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.memory import available_bytes
from probe.core.terminal import lasting
from probe.heads.linalg.newton import Solution
from probe.heads.shared.head import FloatArray

Float64Array = NDArray[np.float64]
OF_A_NUMBER = 8 + 16
"""Bytes of one feature of one row: as a double, and as LIBLINEAR keeps it, with its place."""


def needed_bytes(n_rows: int, width: int, n_classes: int) -> int:
    """What LIBLINEAR takes beside the rows that it is given."""
    return n_rows * (OF_A_NUMBER * (width + 1) + 8 * n_classes)


def check_memory(n_rows: int, width: int, n_classes: int) -> None:
    """Refuses rows of which LIBLINEAR's copy would not fit, before they are read."""
    needed, available = needed_bytes(n_rows, width, n_classes), available_bytes("cpu")
    if needed > available:
        raise InputError(
            f"LIBLINEAR takes {needed / 1e9:.3g} GB for {n_rows:,} rows of {width:,} features and this machine has "
            f"{available / 1e9:.3g} GB free: set head.multi_class=ovr, or fit fewer rows"
        )


def solve_crammer_singer(
    rows: Float64Array, codes: IntArray, Cs: FloatArray, *, tol: float, max_iter: int, random_state: int | None
) -> list[Solution]:
    """Where LIBLINEAR stopped for each C, of rows (N, R) with codes 0 .. K - 1.

    The intercepts are the coefficients of one more feature, which is 1 everywhere, and of the rows about their mean:
    so what their penalty does hangs on no origin. Hinges have corners, which leaves no gradient to tell of.
    """
    mean = rows.mean(axis=0)
    centred = rows - mean
    path = []
    with lasting(len(Cs)) as shown:
        for i, C in enumerate(Cs):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # said once for all C
                model = LinearSVC(
                    C=C, multi_class="crammer_singer", tol=tol, max_iter=max_iter, random_state=random_state
                ).fit(centred, codes)
            coef, intercept = model.coef_, model.intercept_
            if len(coef) == 1:  # of two classes scikit-learn keeps the difference: one is the negative of the other
                coef, intercept = np.vstack([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
            loss = hinges(centred @ coef.T + intercept, codes)
            path.append(
                Solution(
                    theta=torch.from_numpy(np.column_stack([coef, intercept - coef @ mean])),
                    value=float(C * loss + 0.5 * ((coef**2).sum() + (intercept**2).sum())),
                    loss=loss,
                    gradient_norm=math.nan,
                    gap=math.nan,
                    softest=math.nan,
                    n_iter=int(model.n_iter_),
                    converged=bool(model.n_iter_ < max_iter),
                )
            )
            shown.reach(i + 1)
    if short := [f"{C:.3g}" for C, solution in zip(Cs, path, strict=True) if not solution.converged]:
        warnings.warn(
            f"LIBLINEAR made max_iter = {max_iter} passes and stopped short of tol = {tol:g} for C = "
            f"{', '.join(short)}: scale the features, choose smaller Cs, or raise tol or max_iter",
            ConvergenceWarning,
            stacklevel=5,
        )
    return path


def hinges(scores: Float64Array, codes: IntArray) -> float:
    """Sum over rows (N, K) of how far the own score is from being 1 above the highest of the others, at least 0."""
    places = np.arange(len(scores))
    above = scores - scores[places, codes][:, None] + 1
    above[places, codes] = 0
    return float(above.max(axis=1).sum())
