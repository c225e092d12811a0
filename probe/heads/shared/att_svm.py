"""The direction that a query takes in the long run: the attention SVM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import InputError

MOST_PAIRS = 20_000
"""Of a row's best token with another one of it: the solver holds a dense matrix of them."""


@dataclass(frozen=True)
class AttSVM:
    """The query of least norm that sets the best token of every row apart from its others.

    Attributes:
        query: (D,) p.
        tokens: (N,) which token of each row is its best.
        cosine: Of p and the query of the fitted probe.
        margin: Of the fitted query at the length of p: at least 1 would set all apart as well as p does.
    """

    query: NDArray[np.float64]
    tokens: NDArray[np.int64]
    cosine: float
    margin: float


def check_size(n_rows: int, n_tokens: int) -> None:
    """Refuses more pairs of tokens than the solver holds."""
    if n_rows * (n_tokens - 1) > MOST_PAIRS:
        raise InputError(
            f"att_svm was given {n_rows} rows of {n_tokens} tokens, expected at most {MOST_PAIRS} pairs of a best one "
            f"and another: give {MOST_PAIRS // (n_tokens - 1)} rows or fewer"
        )


def best_tokens(
    logits_NTK: NDArray[np.float64], codes: NDArray[np.int64], mask: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """(N,) the token that speaks most for the class of its row."""
    rows = np.arange(len(codes))
    own = logits_NTK[rows, :, codes]
    others = logits_NTK.copy()
    others[rows, :, codes] = -np.inf
    return np.where(mask, own - others.max(axis=2), -np.inf).argmax(axis=1)


def pairs(X_NTD: NDArray[np.float64], tokens: NDArray[np.int64], mask_NT: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(M, D) best token less another one, for every row and every other token that is there."""
    others = mask_NT.copy()
    others[np.arange(len(X_NTD)), tokens] = False
    best = X_NTD[np.arange(len(X_NTD)), tokens]
    return (best[:, None] - X_NTD)[others]


def least_norm(G_MD: NDArray[np.float64]) -> NDArray[np.float64]:
    """argmin |p| subject to G p >= 1: the separating hyperplane through the origin of hard margin.

    Non-negative least squares on [G'; 1'] u ~ (0, .., 0, 1); with the residual r, p = -r_1..D / r_D+1 (Lawson and
    Hanson, "Solving Least Squares Problems", 1974, chapter 23).

    Raises:
        InputError: No p satisfies all.
    """
    from scipy.optimize import nnls

    M, D = G_MD.shape
    scale = np.abs(G_MD).max(initial=0) or 1.0
    E = np.vstack([G_MD.T / scale, np.ones(M)])
    target = np.zeros(D + 1)
    target[-1] = 1
    solution, distance = nnls(E, target, maxiter=10 * (M + D))
    residual = E @ solution - target
    query = -residual[:-1] / residual[-1] / scale if distance > 1e-9 else np.zeros(D)
    if (G_MD @ query).min(initial=1.0) < 1 - 1e-5:
        raise InputError(
            f"no query sets the best token of every row apart from its others ({M} pairs in {D} dimensions): give "
            "fewer rows, or tokens of a wider backbone"
        )
    return query
