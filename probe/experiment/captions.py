"""Captions of test rows as features: different texts are rows of a dataset, whose features the store keeps."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.core.base import Dataset, IntArray, TextTower, digest
from probe.core.source import identity_of
from probe.core.targets.captions import HasCaptions
from probe.core.words import counted
from probe.experiment.token_rows import PARTITION, TokenRows

if TYPE_CHECKING:
    from probe.features.store import FeatureStore


@dataclass(frozen=True)
class CaptionTexts:
    """The captions of a partition, and the tower that reads them.

    Attributes:
        tower: Reads texts.
        dataset: Of the U different texts, each once, so that equal captions have equal features.
        texts: (M,) which of these each caption is.
        rows: (M,) the row of the partition that each belongs to, in ascending order.
    """

    tower: TextTower
    dataset: Dataset
    texts: IntArray
    rows: IntArray

    @classmethod
    def of(cls, tower: TextTower, name: str, partition: HasCaptions) -> CaptionTexts:
        """Those of a partition of the dataset of that name."""
        captions = partition.captions
        rows = np.repeat(np.arange(len(partition)), [len(of_row) for of_row in captions])
        numbers: dict[str, int] = {}
        texts = [numbers.setdefault(text, len(numbers)) for of_row in captions for text in of_row]
        tokens = TokenRows(tower.tokenize(list(numbers)), np.zeros(len(numbers), dtype=np.int64), tuple(numbers))
        dataset = Dataset(f"{name} captions", ("captions",), {PARTITION: tokens}, rows="texts")
        return cls(tower, dataset, np.array(texts, dtype=np.int64), rows)

    def describe(self) -> dict[str, Any]:
        """What determines how they are found, beside the images and whose they are."""
        return {"tower": digest(identity_of(self.tower)), "captions": self.dataset.fingerprint}

    @property
    def notes(self) -> list[str]:
        """A sentence on captions that stand at several rows."""
        pairs = np.unique(np.stack([self.texts, self.rows]), axis=1)
        at = np.bincount(pairs[0])
        if not (n := int((at[self.texts] > 1).sum())):
            return []
        return [
            f"{counted(n, 'caption')} of {len(self.texts):,} also {'stands' if n == 1 else 'stand'} at another row, "
            "where each counts as found with its own row alone"
        ]

    def filled_in(
        self, asks: Container[str], store: FeatureStore, device: str, rows: IntArray, *, progress: bool = True
    ) -> dict[str, Any]:
        """The parameters of a head that a run fills in: the captions of some rows, by their places among these."""
        found = store.get(self.tower, self.dataset, PARTITION, ["pooled"], device=device, progress=progress)
        place = np.searchsorted(rows, self.rows).clip(max=len(rows) - 1)
        kept = rows[place] == self.rows
        return {
            "text_features": np.asarray(found.arrays["pooled"][:], dtype=np.float32),
            "caption_texts": self.texts[kept],
            "caption_rows": place[kept],
        }
