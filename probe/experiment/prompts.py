"""Texts of classes as features: prompts are rows of a dataset, whose features the store keeps like any others."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.shared.views import MultiView
from probe.core.abilities import ReadsTexts
from probe.core.base import Backbone, Dataset, IntArray, TextTower, digest
from probe.core.errors import DoesNotFit
from probe.core.source import identity_of
from probe.core.targets.captions import HasCaptions
from probe.core.targets.relevance import HasJudgements
from probe.datasets.shared.text_rows import TextPartition
from probe.experiment.captions import CaptionTexts
from probe.experiment.identity import head_name
from probe.experiment.judgements import Judgements
from probe.experiment.token_rows import PARTITION, TokenRows

if TYPE_CHECKING:
    from probe.features.store import FeatureStore
    from probe.heads.shared.head import Head


@dataclass(frozen=True)
class Prompts:
    """The texts of every class, and the tower that reads them."""

    tower: TextTower
    dataset: Dataset
    temperature: float
    backbone: Backbone

    def describe(self) -> dict[str, Any]:
        """What determines the logits of a zero-shot classifier, beside the images."""
        return {
            "tower": digest(identity_of(self.tower)),
            "prompts": self.dataset.fingerprint,
            "temperature": self.temperature,
        }

    def class_features(self, store: FeatureStore, device: str, *, progress: bool = True) -> NDArray[np.float64]:
        """(K, D) mean feature of the texts of each class, through the store; of words (K, M, D), NaN behind them."""
        found = store.get(self.tower, self.dataset, PARTITION, ["pooled"], device=device, progress=progress)
        features = np.asarray(found.arrays["pooled"][:], dtype=np.float64)
        of_class = [features[found.labels == k] for k in range(len(self.dataset.class_names))]
        if not is_apart(self.tower):
            return np.stack([rows.mean(axis=0) for rows in of_class])
        words = np.full((len(of_class), max(map(len, of_class)), features.shape[1]), np.nan)
        for k, rows in enumerate(of_class):
            words[k, : len(rows)] = rows
        return words

    def filled_in(
        self, asks: Container[str], store: FeatureStore, device: str, rows: IntArray, *, progress: bool = True
    ) -> dict[str, Any]:
        """The parameters of a head that a run fills in, those among them that it asks for, whatever rows it tests."""
        found: dict[str, Any] = {
            "class_features": self.class_features(store, device, progress=progress),
            "temperature": self.temperature,
        }
        if "vocabulary" in asks:
            found["vocabulary"] = self._vocabulary(store, device, progress)
        if "blank_features" in asks:
            found["blank_features"] = self._blank(store, device, progress)
        return found

    def _vocabulary(self, store: FeatureStore, device: str, progress: bool) -> Any:
        """(V, D + 1) weights and bias of every word, on disk: a saved head refers to it."""
        n = self.tower.n_words  # type: ignore[attr-defined]
        rows = TokenRows(np.arange(n)[:, None], np.zeros(n, np.int64), tuple(map(str, range(n))))
        every = Dataset("vocabulary", ("words",), {PARTITION: rows}, rows="texts")
        found = store.get(self.tower, every, PARTITION, ["pooled"], device=device, progress=progress)
        return found.arrays["pooled"]

    def _blank(self, store: FeatureStore, device: str, progress: bool) -> NDArray[np.float64]:
        """(D,) what the backbone says of an empty text."""
        rows = TextPartition([""], np.zeros(1, np.int64), ["empty"])
        one = Dataset("empty text", ("none",), {PARTITION: rows}, rows="texts")
        found = store.get(self.backbone, one, PARTITION, ["pooled"], device=device, progress=progress)
        return np.asarray(found.arrays["pooled"][0], dtype=np.float64)


def is_apart(thing: Any) -> bool:
    """Whether texts of a class are words, each of which counts by itself."""
    return bool(getattr(thing, "apart", False))


def prompts_of(
    head: Head, backbone: Backbone, dataset: Dataset, reads: Mapping[str, str]
) -> Prompts | CaptionTexts | Judgements | None:
    """The prompts of a head that reads texts, or the captions or judgements of the test rows; None for any other head.

    Raises:
        DoesNotFit: The backbone has no text tower, or another layer than its pooled features is read.
        InputError: Its features are not projected into the space of texts.
    """
    tested = dataset.partitions.get("test")
    if not head.reads_texts:
        return Judgements(tested) if isinstance(tested, HasJudgements) else None
    name = head_name(head)
    # Views have the texts of their backbone, if any: from Python 3.12 on `isinstance` finds the property either way.
    whole = backbone.backbone if isinstance(backbone, MultiView) else backbone
    if not isinstance(whole, ReadsTexts) and is_apart(head):
        raise DoesNotFit(
            f"head {name} asks how likely words are, backbone {backbone.name} has no output matrix: set "
            "backbone=huggingface backbone.words=true, and of an encoder backbone.pooling=mask and a template with its "
            "mask token"
        )
    if not isinstance(whole, ReadsTexts):
        raise DoesNotFit(
            f"head {name} compares images with texts, backbone {backbone.name} has no text tower: set "
            f"backbone=open_clip, or {getattr(head, 'without_texts', 'choose another head')}"
        )
    if reads.get("pooled", "pooled") != "pooled":
        raise DoesNotFit(
            f"head {name} compares images with texts, layer {reads['pooled']} has no texts beside it: set "
            "reads.pooled=pooled"
        )
    tower = whole.text
    if is_apart(head) != is_apart(tower):
        raise DoesNotFit(
            f"head {name} {'wants words of an output matrix' if is_apart(head) else 'compares images with texts'}, "
            f"backbone {backbone.name} has {'texts' if is_apart(head) else 'words'}: choose head=linear"
        )
    if getattr(head, "at_mask", False) and getattr(backbone, "pooling", None) != "mask":
        raise DoesNotFit(
            f"head {name} reads the state at the mask, backbone {backbone.name} gives another: set "
            "backbone.pooling=mask and a backbone.template with its mask token, or head=label_words"
        )
    if isinstance(tested, HasCaptions):
        return CaptionTexts.of(tower, dataset.name, tested)
    texts = head.prompts(dataset.class_names)
    labels = np.repeat(np.arange(len(texts)), [len(of_class) for of_class in texts])
    flat = tuple(text for of_class in texts for text in of_class)
    rows = TokenRows(tower.tokenize(flat), labels, flat)
    prompts = Dataset(f"{dataset.name} prompts", dataset.class_names, {PARTITION: rows}, rows="texts")
    temperature = head.get_params()["temperature"]
    return Prompts(tower, prompts, tower.temperature if temperature is None else temperature, backbone)
