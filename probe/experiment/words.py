"""The words behind token ids, kept in a fitted head that says what each of them adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probe.core.abilities import NamesTokens
from probe.core.base import Dataset, Split
from probe.experiment.request import Run
from probe.heads.shared.abilities import VotesByWord

if TYPE_CHECKING:
    from probe.heads.shared.base import AnyHead


@dataclass(frozen=True)
class Words:
    """What the ids of the rows that train stand for."""

    backbone: NamesTokens
    dataset: Dataset
    split: Split

    def keep_in(self, head: AnyHead) -> None:
        """A fitted head knows its words by name: without the backbone a reader could make nothing of ids."""
        if isinstance(head, VotesByWord):
            parts = (
                (self.dataset.partitions[r.partition], r.indices) for r in (self.split.train, self.split.validation)
            )
            texts = (partition[int(row)] for partition, rows in parts for row in rows)
            head.words_ = self.backbone.words_of(head.vocabulary_, texts)


def words_behind(asked: Run, split: Split) -> Words | None:
    """Of a run on texts whose backbone tells its words."""
    backbone = asked.backbone
    if not isinstance(backbone, NamesTokens) or backbone.reads != "texts":
        return None
    return Words(backbone, asked.dataset, split)
