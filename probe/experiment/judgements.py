"""Relevance judgements of the test rows, which a run hands to its head."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probe.core.base import IntArray
from probe.core.targets.relevance import HasJudgements, among

if TYPE_CHECKING:
    from probe.features.store import FeatureStore


@dataclass(frozen=True)
class Judgements:
    """Those of a partition."""

    partition: HasJudgements

    def describe(self) -> None:
        """Nothing: they are a part of what the dataset is."""

    def filled_in(
        self, asks: Container[str], store: FeatureStore, device: str, rows: IntArray, *, progress: bool = True
    ) -> dict[str, Any]:
        """The parameters of a head that a run fills in: the judgements among some rows, by their places in these."""
        found = {"judgements": self.partition.judgements, "same_ids": self.partition.same_ids}
        return {name: among(pairs, rows) for name, pairs in found.items() if name in asks}
