"""What the metrics need to know of each row, read once per run, and what of it a run keeps.

One file per target, named as it is (`probe.core.targets`): `read` makes scores of outputs and labels, and the class of
these has `arrays`, which a run keeps, and `restored`, which makes scores of the arrays again. Where metrics know
something of the training labels too, `beside` says what, by the name under which they read it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from probe.core.base import IntArray
from probe.core.targets import DEFAULT, Target
from probe.metrics.shared.graded import GradedScores


class Scores(Protocol):
    """Of the rows of a run.

    Attributes:
        target: Name of what the labels are.
        logits: What the head gave, (N, K), where it is at hand.
        labels: Of the rows.
    """

    @property
    def target(self) -> str: ...
    @property
    def logits(self) -> NDArray[Any] | None: ...
    @property
    def labels(self) -> NDArray[Any]: ...
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a run keeps of them, by the name in its predictions."""
        ...


@runtime_checkable
class InGroups(Protocol):
    """Scores whose intervals take rows of a group for one."""

    def in_groups(self, groups: IntArray | None) -> Any:
        """The same with the numbers of the groups, (N,), or None where each row is its own."""
        ...


@runtime_checkable
class OfTarget(Protocol):
    """Scores to which the target of the dataset has something to say, such as which class is the background."""

    def of_target(self, target: Target) -> Any:
        """The same with it."""
        ...


@dataclass(frozen=True)
class Frequencies:
    """Scores of the test rows, beside the (K,) rows, or pixels, of each class that the head may learn from."""

    rows: Any
    train_counts: IntArray

    @property
    def target(self) -> str:
        """That of the rows."""
        return str(self.rows.target)


@dataclass(frozen=True)
class OfGroups:
    """Scores of the test rows, beside the groups that they and the training rows belong to.

    Attributes:
        groups: (N,) numbers of the groups of the test rows, 0..G-1.
        n_train: (G,) training rows of each.
    """

    rows: Any
    groups: IntArray
    n_train: IntArray

    @property
    def target(self) -> str:
        """That of the rows."""
        return str(self.rows.target)


@dataclass(frozen=True)
class OfSeen:
    """Scores of the test rows, beside (K,) which classes had rows to learn from."""

    rows: Any
    seen: NDArray[np.bool_]

    @property
    def target(self) -> str:
        """That of the rows."""
        return str(self.rows.target)


def score(outputs: Any, labels: NDArray[Any], target: str = DEFAULT) -> Any:
    """The scores of rows whose labels are what `target` names.

    Args:
        outputs: Logits (N, K) or means (N,) or (N, Q), where pixels have labels a tally of each image.
        labels: Of the rows, as the target has them.
        target: Its name.

    Raises:
        InputError: Outputs or labels that cannot be scored.
    """
    return importlib.import_module(f"{__name__}.{target}").read(outputs, labels)


def beside(rows: Any, learnt: NDArray[Any]) -> dict[str, Any]:
    """Scores of test rows beside what the training labels tell, by the name under which metrics read them."""
    found = getattr(importlib.import_module(f"{__name__}.{rows.target}"), "beside", None)
    return found(rows, learnt) if found else {}


def tuned(rows: Any, outputs: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    """Scores of test rows with what validation rows say of them, by the name under which metrics read them.

    Args:
        rows: Of the test rows.
        outputs: Of the validation rows, by a head that was not fitted on them.
        labels: Of the validation rows.
    """
    found = getattr(importlib.import_module(f"{__name__}.{rows.target}"), "tuned", None)
    return found(rows, outputs, labels) if found else {}


def graded(rows: Any, learnt: NDArray[Any]) -> GradedScores:
    """Scores of test rows as grades, where the dataset declares that classes or numbers are such.

    Args:
        rows: Scores of the rows.
        learnt: Labels of the training rows.
    """
    found: GradedScores = importlib.import_module(f"{__name__}.{rows.target}").graded(rows, learnt)
    return found


def restored(arrays: Mapping[str, NDArray[Any]], target: str = DEFAULT) -> Any:
    """The scores of a run from the arrays that it kept; what a metric `needs` says which of them it looks at."""
    kept = importlib.import_module(f"{__name__}.{target}")
    kind = next(kind for kind in vars(kept).values() if getattr(kind, "target", None) == target)
    return kind.restored(arrays)
