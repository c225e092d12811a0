"""The shared nouns: what backbones, datasets, protocols and runs look like to each other.

Shape legend, also for suffixes inside solvers (`X_ND`): N rows, D features, K classes, T tokens, C channels,
H and W height and width of a map.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from probe.core.targets import Target
from probe.core.targets.one_class import ONE_CLASS

if TYPE_CHECKING:
    from torch import Tensor

IntArray = NDArray[np.int64]
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Returns 32 hex digits that name a JSON-able value: equal values, equal digests, whatever the key order."""
    return hashlib.sha256(_ENCODER.encode(value).encode()).hexdigest()[:32]


@runtime_checkable
class Partition(Protocol):
    """Labelled rows that are read lazily, one at a time.

    Attributes:
        labels: What the dataset's target says, such as (N,) int64 class codes; known without decoding any row.
        ids: N stable names of the rows (a file name, a row number).
        fingerprint: Digest of the content of every row, the labels, the ids and their order.
    """

    @property
    def labels(self) -> IntArray: ...
    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def fingerprint(self) -> str: ...
    def __len__(self) -> int: ...
    def __getitem__(self, row: int) -> Any:
        """The raw row, as backbones take it: a PIL image (any mode), a text, a (T, C) or a (D,) float array."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Named partitions of labelled rows: `train`, `test`, perhaps `validation`.

    `class_names` are those of what a label says: of the classes, of the labels, of the columns of numbers.
    """

    name: str
    class_names: tuple[str, ...]
    partitions: Mapping[str, Partition]
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the record that determine nothing, such as a known Bayes error."""
    target: Target = ONE_CLASS
    """What a label is; declared, never guessed from the labels."""
    rows: str | None = field(default=None, kw_only=True)
    """What the rows are: `images`, `texts`, `series` (T, C) or `vectors`; None leaves it to the first row to say."""

    @cached_property
    def fingerprint(self) -> str:
        return digest([self.class_names, {name: p.fingerprint for name, p in self.partitions.items()}])

    @property
    def leading(self) -> Partition:
        """The partition that shows what its rows are like: train, or test where nothing is learnt."""
        return self.partitions["train" if self.target.learnt else "test"]

    def faults(self) -> list[str]:
        """What makes it useless to a measurement, a clause each."""
        found = self.target.name_faults(self.class_names)
        if (needed := "train" if self.target.learnt else "test") not in self.partitions:
            found.append(f"it has no partition {needed}, only {sorted(self.partitions)}")
        for name, partition in self.partitions.items():
            found += self.target.faults(name, np.asarray(partition.labels), self.class_names, partition.ids)
        return found


Batch: TypeAlias = "Tensor | Mapping[str, Tensor]"
"""Rows as a network reads them, or one of them."""


@runtime_checkable
class Backbone(Protocol):
    """A frozen feature extractor: eval mode, no gradients, the same weights after a run as before.

    Attributes:
        name: How tables call it, such as `tiny` or `timm/resnet18`.
        reads: What rows it reads, as `Dataset.rows` says it: `images`, `texts`, `series` or `vectors`.
        kinds: The kinds of features it can give: `pooled` (N, D); `tokens` (N, T, D), prefix tokens such as CLS
            first; `map` (N, C, H, W); `token_ids` (N, T); any further tapped layer under its own name.
        n_prefix_tokens: How many of the tokens stand before the patches.
        n_parameters: Number of weights.

    What one may have besides: see `probe.core.abilities`.
    """

    name: str
    reads: str
    kinds: tuple[str, ...]
    n_prefix_tokens: int
    n_parameters: int

    def identity(self) -> dict[str, Any]:
        """JSON-able facts that determine every feature: architecture, weights hash, preprocessing, precision."""
        ...

    def transform(self, row: Any) -> Batch:
        """One raw row of a partition as a tensor or a mapping of tensors; see `Collates` for batches of these."""
        ...

    def extract(self, batch: Any, kinds: Sequence[str]) -> dict[str, Any]:
        """Features of a batch, on the device of the backbone."""
        ...

    def to(self, device: str) -> Backbone: ...


@dataclass(frozen=True)
class Rows:
    """Some rows of one partition."""

    partition: str
    indices: IntArray

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Split:
    """What a protocol makes of a dataset: the rows that train, validate and test.

    Attributes:
        folds: Where the training rows are too few for a validation part (`validation` is empty then): the fold in
            which each of them is held out to choose on, -1 for never, (n_train,) int64, as scikit-learn's
            `PredefinedSplit` takes it. None where there is a validation part, or nothing at all to choose on. -1 alone
            where rows belong to groups and none can be spared: then nothing is chosen.
        train_labels: Labels of the whole partition `train` as rows that train or validate are to see them, where the
            protocol changes them (label noise), (N,) int64; None where they stand as they are. Rows that test keep
            their own in any case.
    """

    train: Rows
    validation: Rows
    test: Rows
    folds: IntArray | None = None
    train_labels: IntArray | None = None

    @property
    def parts(self) -> dict[str, Rows]:
        """The three sets of rows by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


@runtime_checkable
class SplitProtocol(Protocol):
    """Names rows from the dataset and the seed alone, never from backbone or head.

    One whose draw means something by strata too, where rows have no single class, says `by_class = False`: see
    `DrawsByStratum`. One of this package turns a class attribute `recipe` (absent: "1") when it names other rows than
    it used to.
    """

    @property
    def name(self) -> str: ...
    def split(self, dataset: Dataset, seed: int) -> Split: ...


class TextTower(Backbone, Protocol):
    """A backbone of tokenised texts, whose `pooled` features lie beside those of images."""

    @property
    def temperature(self) -> float:
        """What cosine similarities are divided by to become logits."""
        ...

    def tokenize(self, texts: Sequence[str]) -> IntArray:
        """(n, L) token ids."""
        ...
