"""What a head reads: its kinds of features of the rows of a split, under the names that it knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.backbones.shared.views import MultiView
from probe.core.abilities import Tapped
from probe.core.arrays import DrawnViews, Entries, RowSubset
from probe.core.base import Backbone, Dataset, IntArray, Rows
from probe.core.kinds import MEAN_OF_TOKENS
from probe.core.lazy import Cells, Layers
from probe.core.ragged import MASK, MeanTokens, RaggedMask, lengths_of
from probe.experiment.dense import Places, in_places, map_of
from probe.experiment.folds import chosen_on_folds
from probe.experiment.identity import FILLED_IN, head_parameters, parts_of
from probe.experiment.request import Drawn, ManyLayers, Run
from probe.experiment.scaling import Scaling, standardizes
from probe.experiment.transfer import PARTITION
from probe.experiment.words import Words, words_behind
from probe.heads.shared.patch_head import PatchRows

if TYPE_CHECKING:
    from probe.features.store import Features
    from probe.heads.shared.base import AnyHead


MEAN = "mean"
BY_HEAD = re.compile(r":(heads|contribution)(:|$)")
"""Of kinds with one vector per attention head."""


@dataclass(frozen=True)
class Part:
    """Some rows of a split as a head takes them.

    Attributes:
        X: Features, or a mapping of one array per kind; None where there are no rows.
        y: (N,) labels.
        rows: (N,) their numbers in the partition.
        places: Of images with a label per pixel, where their pixels are and what these say; X then holds all views.
    """

    X: Any
    y: IntArray
    rows: IntArray
    places: Places | None = None

    @property
    def targets(self) -> Any:
        """What a head is fitted on: the labels, or those of pixels as the backbone sees them."""
        return self.y if self.places is None else self.places.seen

    def in_views(self, values: IntArray | None) -> IntArray | None:
        """A value for each row of X, from one for each label: those of an image hold for all of its views."""
        return values if values is None or self.places is None else np.tile(values, len(self.X) // len(self.y))


NO_ROWS = Part(None, np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True)
class LayerShares:
    """What was found for `reads.pooled=<pattern>:best` or `:mix`.

    Attributes:
        names: Of the layers that are read.
        shares: What each is multiplied by before they are summed.
        record: What the run says of it.
        selection: What was searched, as heads say it in `selection_`.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    record: Mapping[str, Any]
    selection: Mapping[str, Any]

    def __call__(self, X: Any) -> Any:
        """Rows of `Layers` as the head reads them."""
        by_name = dict(zip(self.names, self.shares, strict=True))
        return None if X is None else _of_layers(X, by_name)

    def read(self, rows: ReadRows) -> ReadRows:
        """The same in all parts of a run."""
        train, validation, test = (replace(p, X=self(p.X)) for p in (rows.train, rows.validation, rows.test))
        return replace(rows, train=train, validation=validation, test=test, layers=self)

    def counted(self, selection: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """What was searched in all, given what the head searched on the layer, or on the mixture."""
        if "layer" not in self.selection["chosen"]:
            return selection or self.selection
        chosen = {**self.selection["chosen"], **(selection["chosen"] if selection else {})}
        return {**self.selection, "chosen": chosen}

    def keep_in(self, head: AnyHead) -> None:
        """A fitted head takes the layers by their names too."""
        head.layers_, head.layer_shares_ = list(self.names), np.array(self.shares)


def _of_layers(X: Any, shares: Mapping[str, float]) -> Any:
    if isinstance(X, RowSubset):
        return RowSubset(_of_layers(X.array, shares), X.indices)
    return X.of(shares)


@dataclass(frozen=True)
class ReadRows:
    """All that a run reads.

    Attributes:
        features: By partition.
        folds: Of the training rows, as `Split` has them.
        scaling: What the features of all parts were brought to, where that was asked for.
        layers: Which layers these are, where they were found and not named.
        words: Those of the texts that train, where the backbone tells them.
    """

    features: Mapping[str, Features]
    train: Part
    validation: Part
    test: Part
    folds: IntArray | None
    scaling: Scaling | None = None
    layers: LayerShares | None = None
    words: Words | None = None

    def brought(self, X: Any) -> Any:
        """Other rows as these are: of the same layers, in the same scaling."""
        X = self.layers(X) if self.layers else X
        return self.scaling(X) if self.scaling else X

    def keep_in(self, head: AnyHead) -> None:
        """What a fitted head does from here on with rows as the store has them."""
        for step in (self.layers, self.scaling, self.words):
            if step:
                step.keep_in(head)


def read(drawn: Drawn) -> ReadRows:
    """The features of all rows of a split, extracted where they are missing."""
    asked, head = drawn.checked.asked, drawn.checked.head
    apart = asked.teacher is not None or asked.search is not None
    split = chosen_on_folds(head, asked.dataset, asked.protocol, drawn.split, asked.seed, apart=apart)
    names = sorted({rows.partition for rows in parts_of(split).values() if len(rows)})
    if asked.dataset.target.per_pixel:
        features = {name: fetch_map(asked, name) for name in names}
    else:
        features = {name: fetch(asked, asked.backbone, name, head.consumes, asked.reads) for name in names}
    if drawn.elsewhere:
        features[PARTITION] = drawn.elsewhere.features(features[PARTITION])
    train, validation = (
        select(features, rows, head.consumes, split.train_labels, head.takes_mask)
        for rows in (split.train, split.validation)
    )
    test = select(features, split.test, head.consumes, masked=head.takes_mask)
    if asked.dataset.target.per_pixel:
        train, validation = (
            in_places(part, rows.partition, asked.dataset, asked.backbone)
            for part, rows in ((train, split.train), (validation, split.validation))
        )
        tested = drawn.elsewhere.dataset if drawn.elsewhere else asked.dataset
        test = in_places(test, split.test.partition, tested, asked.backbone)
    folds = None if split.folds is None else split.folds[np.isin(split.train.indices, train.rows)]
    rows = ReadRows(features, train, validation, test, folds, words=words_behind(asked, split))
    return rows if has_many_layers(head, asked) else standardized(rows, asked)


def has_many_layers(head: AnyHead, asked: Run) -> bool:
    """Whether the layer that a head reads is still to be found."""
    return isinstance(asked.reads.get("pooled"), ManyLayers) and head.consumes == ("pooled",)


def standardized(rows: ReadRows, asked: Run) -> ReadRows:
    """The rows at mean 0 and variance 1 over those that train, where that is asked for."""
    if not standardizes(asked.standardize, asked.dataset):
        return rows
    scaling = Scaling.of(rows.train.X)
    train, validation, test = (replace(part, X=scaling(part.X)) for part in (rows.train, rows.validation, rows.test))
    return replace(rows, train=train, validation=validation, test=test, scaling=scaling)


def sources(consumed: Sequence[str], reads: Mapping[str, Any]) -> list[tuple[str, int | str | None]]:
    """For each kind that a head reads the kind that is extracted, and what of it; of cells for each one.

    `<layer>:heads.<number>` is one attention head of the kind `<layer>:heads`, `tokens:mean` the `mean` of `tokens`.
    """
    found: list[tuple[str, int | str | None]] = []
    for read in (read for kind in consumed for read in read_as(kind, reads)):
        if read == MEAN_OF_TOKENS:
            found.append((read.partition(":")[0], MEAN))
            continue
        kind, _, entry = read.rpartition(".")
        of_heads = BY_HEAD.search(kind) is not None and entry.isdecimal()
        found.append((kind, int(entry)) if of_heads else (read, None))
    return found


def read_as(kind: str, reads: Mapping[str, Any]) -> list[str]:
    """What stands in for a kind: one kind of the backbone, the cells of a grid, or several layers."""
    read = reads.get(kind) or kind
    if isinstance(read, ManyLayers):
        return list(read.names)
    return [read] if isinstance(read, str) else list(read)


def filled_in(head: AnyHead, backbone: Backbone, request: Run) -> AnyHead:
    """A fresh head with the parameters that follow from the run: seed, device, prefix tokens of the backbone.

    The other parameters are spelled as the run's digest spells them: equal digests are equal computations.
    """
    from sklearn.base import clone

    if isinstance(head, PatchRows):
        return head.with_inner(filled_in(head.inner, backbone, request), request.seed)
    values = dict(zip(FILLED_IN, (request.seed, request.device, backbone.n_prefix_tokens), strict=True))
    fresh: AnyHead = clone(head).set_params(**head_parameters(head))
    return fresh.set_params(**{name: values[name] for name in FILLED_IN if name in head.get_params(deep=False)})


def fetch(
    request: Run, backbone: Backbone, partition: str, consumed: tuple[str, ...], reads: Mapping[str, Any]
) -> Features:
    """Features of a partition under the names that the head knows; all tapped layers are extracted in one pass."""
    wanted = sources(consumed, reads)
    found = _stored(request, backbone, _dataset_of(request, partition), partition, [kind for kind, _ in wanted])
    seen: Mapping[str, Any] = found.arrays
    if isinstance(backbone, MultiView):
        drawn = backbone.use == "draw"
        seen = {k: DrawnViews(a, request.seed) if drawn else Entries(a, None) for k, a in found.arrays.items()}
    arrays: list[Any] = [_part_of(seen[kind], what, backbone) for kind, what in wanted]
    if consumed == ("cells",):
        arrays = [Cells(dict(zip(read_as("cells", reads), arrays, strict=True)))]
    if consumed == ("pooled",) and isinstance(many := reads.get("pooled"), ManyLayers):
        arrays = [Layers(dict(zip(many.names, arrays, strict=True)))]
    return replace(found, arrays=dict(zip(consumed, arrays, strict=True)))


def fetch_map(request: Run, partition: str) -> Features:
    """The map that heads of pixels read, of all views, one below the other."""
    kinds = [kind for kind, _ in sources(("map",), request.reads)]
    found = _stored(request, request.backbone, _dataset_of(request, partition), partition, kinds)
    return replace(found, arrays={"map": map_of([found.arrays[kind] for kind in kinds], kinds, request.backbone)})


def _dataset_of(request: Run, partition: str) -> Dataset:
    return request.dataset if request.test_on is None or partition != PARTITION else request.test_on


def _stored(request: Run, backbone: Backbone, dataset: Dataset, partition: str, kinds: Sequence[str]) -> Features:
    asked = dict.fromkeys([*kinds, *(backbone.taps if isinstance(backbone, Tapped) else ())])
    return request.store.get(backbone, dataset, partition, list(asked), device=request.device, **request.features)


def _part_of(array: Any, what: int | str | None, backbone: Backbone) -> Any:
    """What `sources` says of an array."""
    if what == MEAN:
        return MeanTokens(array, backbone.n_prefix_tokens)
    return Entries(array, what) if isinstance(what, int) else array


def select(
    features: Mapping[str, Features],
    rows: Rows,
    kinds: tuple[str, ...],
    train_labels: IntArray | None = None,
    masked: bool = False,
) -> Part:
    """Some rows, those left out that could not be decoded.

    Rows of the partition train take their labels from `train_labels` where given. With `masked`, the mask of tokens
    stands beside kinds of which rows differ in length.
    """
    if not len(rows):
        return Part(None, np.empty(0, np.int64), rows.indices)
    part = features[rows.partition]
    indices = rows.indices[part.valid[rows.indices]]
    arrays: dict[str, Any] = {kind: RowSubset(part.arrays[kind], indices) for kind in kinds}
    lengths = next((found for array in arrays.values() if (found := lengths_of(array)) is not None), None)
    if lengths is not None and masked:
        arrays[MASK] = RaggedMask(lengths)
    labels = train_labels if train_labels is not None and rows.partition == "train" else part.labels
    return Part(arrays[kinds[0]] if len(arrays) == 1 else arrays, labels[indices], indices)
