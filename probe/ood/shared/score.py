"""What a score of unknown classes is, and what it may look at: training rows, the fitted head, the rows to score."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from probe.core.arrays import row_chunks
from probe.core.base import IntArray
from probe.heads.shared.moments import ClassMoments

Floats = NDArray[np.float64]
T = TypeVar("T")
NO_FEATURES = "the head does not read one vector per row"
NOT_LINEAR = "the head is no linear function of the features"
CHECKED_ROWS, TOLERANCE = 16, 1e-3
"""On how many rows, and how exactly, coefficients have to give the head's own logits."""


@dataclass(frozen=True)
class Rows:
    """Rows to score.

    Attributes:
        X: (N, D) features; whatever else the head reads, where that is not one vector per row.
        logits: (N, K) of the fitted head, over the classes that training rows have.
    """

    X: Any
    logits: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known: the training rows and the head fitted on them.

    Attributes:
        X: (N, D) features of the training rows; whatever else the head reads, where that is not one vector per row.
        y: (N,) their class codes in the dataset.
        head: Fitted.
    """

    X: Any
    y: IntArray
    head: Any
    _shared: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What several scores need, made by the first of them."""
        if name not in self._shared:
            self._shared[name] = make()
        found: T = self._shared[name]
        return found

    @property
    def has_features(self) -> bool:
        """Whether rows are vectors."""
        return getattr(self.X, "ndim", 0) == 2

    @cached_property
    def moments(self) -> ClassMoments:
        """Of the training rows, in one read: counts, means, the covariance; of the classes that have rows alone."""
        classes, codes = np.unique(self.y, return_inverse=True)
        device = getattr(self.head, "device", "cpu")
        return ClassMoments(len(classes), self.X.shape[1], second="full", device=device).update(self.X, codes)

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """(K,) which classes of the head have training rows."""
        found: NDArray[np.bool_] = np.isin(self.head.classes_, self.y)
        return found

    @cached_property
    def linear(self) -> tuple[Floats, Floats] | None:
        """W (K, D) and b (K,) with logits = W x + b, of the classes that have training rows; None of other heads."""
        found = getattr(self.head, "coef_", None), getattr(self.head, "intercept_", None)
        if not self.has_features or any(part is None for part in found):
            return None
        W, b = (np.asarray(part, dtype=np.float64) for part in found)
        if len(W) == 1:
            W, b = np.vstack([np.zeros_like(W), W]), np.append(0.0, b)
        rows = np.asarray(self.X[:CHECKED_ROWS], dtype=np.float64)
        if W.shape != (len(self.head.classes_), rows.shape[1]) or b.shape != (len(W),):
            return None
        W, b, logits = W[self.seen], b[self.seen], self.logits(rows.astype(self.X.dtype))
        off = np.abs(rows @ W.T + b - logits).max()
        return (W, b) if off <= TOLERANCE * (1 + np.abs(logits).max()) else None

    def logits(self, X: Any) -> NDArray[Any]:
        """Those of the classes that have training rows."""
        found: NDArray[Any] = self.head.logits(X)[:, self.seen]
        return found


Scorer = Callable[[Rows], Floats]


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well known a row looks: larger for rows of known classes.

    Attributes:
        name: As in the metrics of a run, `ood_auroc@<set>.<name>`.
        fit: From what is known the function of rows, (N,).
        features: Whether it wants one vector per row.
        linear: Whether it wants a head that is a linear function of this.
    """

    name: str
    fit: Callable[[Known], Scorer]
    features: bool = False
    linear: bool = False

    def lacks(self, known: Known) -> str:
        """What it would need and there is not; empty where it can be computed."""
        if (self.features or self.linear) and not known.has_features:
            return NO_FEATURES
        return NOT_LINEAR if self.linear and known.linear is None else ""


@cache
def scores() -> Mapping[str, Score]:
    """All of them by name: what `SCORES` holds in each file of the folder above."""
    room, folder = __name__.partition(".shared.")[0], Path(__file__).parents[1]
    modules = [importlib.import_module(f"{room}.{path.stem}") for path in sorted(folder.glob("[!_]*.py"))]
    return {score.name: score for module in modules for score in module.SCORES}


def recipes() -> dict[str, str]:
    """The word of every family whose numbers have changed: its `RECIPE`."""
    modules = {score.fit.__module__ for score in scores().values()}
    words = {name.rpartition(".")[2]: getattr(importlib.import_module(name), "RECIPE", "1") for name in modules}
    return {name: word for name, word in words.items() if word != "1"}


def in_chunks(rows: Rows, function: Callable[[Floats, Floats], Floats]) -> Floats:
    """A function of features (n, D) and logits (n, K) in float64, over all rows."""
    parts = [
        function(np.asarray(rows.X[part], dtype=np.float64), np.asarray(rows.logits[part], dtype=np.float64))
        for part in row_chunks(rows.X)
    ]
    return np.concatenate(parts)


def squared_lengths(rows: NDArray[Any]) -> NDArray[Any]:
    """(n,) sums of squares, without an array of them."""
    found: NDArray[Any] = np.einsum("ij,ij->i", rows, rows)
    return found
