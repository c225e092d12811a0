"""What an ensemble makes of members, by what their rows are to be told: one file per target, named as it is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from probe.core.errors import InputError
from probe.core.targets import named
from probe.metrics.shared.intervals import FloatArray

Arrays = Mapping[str, NDArray[Any]]


class Views(Protocol):
    """M members, N rows; a view is what one of them says of the rows, as members are combined."""

    KINDS: Mapping[str, Callable[..., FloatArray]]
    """From views (M, ...) to that of the ensemble; `weighted` takes weights too."""
    NEEDED: str
    """The array that a member has to have kept."""

    def view(self, arrays: Arrays, temperature: float) -> FloatArray:
        """From the arrays of predictions that a run kept."""
        ...

    def temperature(self, arrays: Arrays) -> float:
        """What brings outputs that are no log-probabilities to such, from rows that the head was not fitted on."""
        ...

    def weigh(self, views: FloatArray, labels: NDArray[Any]) -> FloatArray:
        """(M,) weights >= 0 of sum 1, from rows that no member was fitted on."""
        ...

    def outputs(self, view: FloatArray, labels: NDArray[Any]) -> NDArray[Any]:
        """What a head would have given, as metrics read it; labels for their shape alone."""
        ...

    def disagreement(self, views: FloatArray) -> float:
        """How far two members are apart, the mean over all pairs."""
        ...

    def quality(self, view: FloatArray, labels: NDArray[Any]) -> float:
        """How good a member is, by which the best is found; more is better."""
        ...


def views_of(target: str, name: str) -> Views:
    """Those of a target.

    Raises:
        InputError: Its predictions cannot be combined.
    """
    try:
        found: Views = importlib.import_module(f"{__package__}.{target}")
    except ModuleNotFoundError as error:
        phrase = named(target).phrase
        raise InputError(
            f"{name} has {phrase}, of which a run keeps no outputs that could be combined: leave it out"
        ) from error
    return found
