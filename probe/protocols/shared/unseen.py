"""What protocols that hide the training rows of some classes have in common."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from probe.core.base import Dataset, IntArray


@runtime_checkable
class HidesClasses(Protocol):
    """A protocol under which some classes have no row to learn from, and test rows."""

    def unseen_classes(self, dataset: Dataset, seed: int) -> IntArray:
        """Their codes, ascending."""
        ...
