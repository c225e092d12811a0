"""Runs on images with masks: which heads fit them, what of a mask a backbone sees, and a class for each pixel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.shared.views import MultiView
from probe.core.abilities import MeasuresFeatures, Tapped
from probe.core.arrays import RowStack, RowSubset, row_chunks
from probe.core.base import Backbone, Dataset, IntArray
from probe.core.errors import DoesNotFit, InputError
from probe.core.geometry import Geometry, Located
from probe.core.lazy import Entries
from probe.core.maps import MapOfTokens, SideBySide
from probe.core.targets.mask import HasMasks, Masks
from probe.heads.shared.dense_labels import SHOWN_BYTES
from probe.heads.shared.patch_head import PatchHead
from probe.metrics.shared.scores.mask import ImageTally
from probe.protocols.shared.tasks import ComesInTasks

if TYPE_CHECKING:
    import torch

    from probe.experiment.reading import Part
    from probe.experiment.request import Run
    from probe.heads.shared.base import AnyHead

BAND_BYTES = 2**28
"""Logits of the pixels of an image are computed in bands of rows of this size."""
LOGITS_BYTES = 2**26
"""Of the places of the images that are predicted at once."""


def has_masks(dataset: Dataset) -> bool:
    """Whether its rows are images with masks."""
    return isinstance(dataset.partitions.get("train"), HasMasks)


def fits_patches(head: Any) -> bool:
    """Whether a head, or a class of heads, can take the places of a map as rows."""
    return (
        "one_class" in getattr(head, "fits", ())
        and head.consumes == ("pooled",)
        and not head.reads_texts
        and not hasattr(head, "measure")
    )


def with_places(request: Run) -> Run:
    """The request with a head of pooled features fitted on patches, and layers under the names of their maps.

    Raises:
        InputError: What is asked for besides has no meaning for masks.
    """
    layers = "map" if request.reads.get("map") is None else request.reads["map"]
    if not has_masks(request.dataset):
        if not isinstance(layers, str):
            raise InputError(
                f"reads.map lists {len(layers)} layers, which heads of a class per pixel read side by side, dataset "
                f"{request.dataset.name} has {request.dataset.target.phrase}: set reads.map to one of them"
            )
        return request
    _check_extras(request)
    kinds = request.backbone.kinds
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise InputError("reads.map lists no layer, expected one or more: set reads.map=map for the output")
    named = [f"{name}:map" if name not in kinds and f"{name}:map" in kinds else name for name in names]
    head = request.head
    if fits_patches(head) and not (head.needs_teacher or head.balances_groups):
        head = PatchHead(head, **request.patches)
    return replace(request, head=head, reads={**request.reads, "map": named[0] if len(named) == 1 else named})


def _check_extras(request: Run) -> None:
    """Refuses what a run on masks has no place for."""
    asked = {
        "control=shuffled_labels": request.shuffle_labels,
        "ood": request.ood,
        "neural_collapse": request.neural_collapse,
        "standardize": request.standardize is True,
        f"protocol {request.protocol.name}": isinstance(request.protocol, ComesInTasks),
        "head none": isinstance(request.head, MeasuresFeatures),
    }
    if odd := [name for name, value in asked.items() if value]:
        raise InputError(
            f"dataset {request.dataset.name} has {request.dataset.target.phrase}, for which there is no "
            f"{' and no '.join(odd)}: leave it out"
        )
    if isinstance(request.backbone, MultiView) and request.backbone.use == "draw":
        raise InputError(
            "views.use=draw gives a row another view in each epoch, on masks heads learn from all views: set "
            "views.use=mean, which averages their logits where they show a pixel"
        )


def check_geometry(request: Run) -> None:
    """Refuses a backbone that does not say where its input lies in an image."""
    backbone = request.backbone
    if not has_masks(request.dataset):
        return
    if not isinstance(backbone, Located):
        raise DoesNotFit(
            f"backbone {backbone.name} does not say where its input lies in an image, dataset {request.dataset.name} "
            "has a class per pixel: choose tiny, timm, open_clip, huggingface or module"
        )
    geometries_of(backbone, (64, 48))


def geometries_of(backbone: Any, size: tuple[int, int]) -> list[Geometry]:
    """Of each view of an image of (width, height), what it shows."""
    return backbone.geometries(size) if isinstance(backbone, MultiView) else [backbone.geometry(size)]


def grid_of_tokens(backbone: Backbone, kind: str) -> tuple[int, int] | None:
    """(h, w) of the places that a kind of tokens fills behind the prefix; None where they fill none."""
    shapes: Mapping[str, tuple[int, ...]] = backbone.shapes if isinstance(backbone, Tapped) else {}
    if kind.rpartition(":")[2] != "tokens" or len(shapes.get(kind, ())) != 2 or "map" not in shapes:
        return None
    n_patches, (height, width) = shapes[kind][0] - backbone.n_prefix_tokens, shapes["map"][1:]
    return (height, width) if n_patches == height * width else None


def map_of(arrays: Sequence[Any], kinds: Sequence[str], backbone: Backbone) -> Any:
    """Stored layers as one map (V N, C, h, w): side by side on the finest grid, the views one below the other."""
    n_views = backbone.n if isinstance(backbone, MultiView) else 1
    views = []
    for view in range(n_views):
        parts = [array if n_views == 1 else Entries(array, view) for array in arrays]
        grids = [grid_of_tokens(backbone, kind) for kind in kinds]
        maps = [part if grid is None else MapOfTokens(part, grid) for part, grid in zip(parts, grids, strict=True)]
        views.append(maps[0] if len(maps) == 1 else SideBySide(maps))
    return views[0] if n_views == 1 else RowStack(views)


class SeenMasks:
    """Masks (n, height, width) as a backbone sees them in one of its views; looks like an array to the heads."""

    def __init__(self, masks: Masks, backbone: Any, view: int):
        self.masks, self.backbone, self.view = masks, backbone, view
        self.dtype = np.dtype(masks[0].dtype)
        self.shape: tuple[int, int, int] = (len(masks), *backbone.image_size)
        self.ndim = 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        rows = np.arange(len(self))[key]
        height, width = self.shape[1:]
        found = np.empty((len(rows), height, width), self.dtype)
        for place, row in enumerate(rows):
            mask = self.masks[int(row)]
            geometry = geometries_of(self.backbone, (mask.shape[1], mask.shape[0]))[self.view]
            found[place] = geometry.seen(mask, height, width, int(np.iinfo(self.dtype).max))
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True)
class Places:
    """The pixels of some images.

    Attributes:
        masks: At their own size.
        seen: (V n, height, width) as the backbone sees them, the views one below the other.
        backbone: That says where its views lie.
    """

    masks: Masks
    seen: Any
    backbone: Any


def in_places(part: Part, partition: str, dataset: Dataset, backbone: Any) -> Part:
    """Rows of a split as heads of masks learn from them: all views, and masks as the backbone sees them.

    Args:
        part: With the rows of the first view.
        partition: Its name.
        dataset: With the masks.
        backbone: That extracted them.
    """
    whole: Any = dataset.partitions[partition]
    if part.X is None or not isinstance(whole, HasMasks):
        return part
    n_views = backbone.n if isinstance(backbone, MultiView) else 1
    masks = whole.masks.rows(part.rows)
    views = [SeenMasks(masks, backbone, view) for view in range(n_views)]
    n_bytes = n_views * math.prod(views[0].shape) * views[0].dtype.itemsize
    seen: Any = views[0] if n_views == 1 else RowSubset(RowStack(views), np.arange(n_views * len(masks)))
    if n_bytes <= SHOWN_BYTES:
        seen = np.asarray(seen)
    rows = np.concatenate([view * len(whole) + part.X.indices for view in range(n_views)])
    return replace(part, X=RowSubset(part.X.array, rows), places=Places(masks, seen, backbone))


def tallies(head: AnyHead, part: Part, n_classes: int) -> list[ImageTally]:
    """What a fitted head says of the pixels of some images, image by image, at the size of their masks."""
    assert part.places is not None
    masks = part.places.masks
    return [ImageTally.of(found, masks[i], n_classes) for i, found in enumerate(predictions(head, part))]


def prediction(head: Any, part: Part, place: int) -> NDArray[np.int64]:
    """(H, W) class of each pixel of one of some images, by its place among them."""
    places = part.places
    assert places is not None
    rows = np.arange(place, len(part.X), len(places.masks))
    one = replace(places, masks=places.masks.rows(np.array([place])))
    return next(predictions(head, replace(part, X=RowSubset(part.X, rows), places=one)))


def predictions(head: Any, part: Part) -> Iterator[NDArray[np.int64]]:
    """(H, W) class of each pixel of some images, in order."""
    for bands in logits_of_pixels(head, part):
        yield head.classes_[likeliest(bands)]


def likeliest(bands: Iterable[tuple[slice, torch.Tensor]]) -> NDArray[np.int64]:
    """(H, W) number of the class with the largest logit."""
    found: NDArray[np.int64] = np.concatenate([logits.argmax(0).numpy() for _, logits in bands])
    return found


def logits_of_pixels(head: Any, part: Part) -> Iterator[Iterator[tuple[slice, torch.Tensor]]]:
    """Logits of the pixels of some images, as `upsampled` has them; one chunk of images is computed at a time."""
    places = part.places
    assert places is not None
    n = len(places.masks)
    n_views = len(part.X) // n
    smaller = max(1, len(head.classes_) // part.X.shape[1])
    for rows in row_chunks(RowSubset(part.X, np.arange(n)), LOGITS_BYTES // smaller):
        numbers = np.arange(n)[rows]
        logits = [head.logits(RowSubset(part.X, view * n + numbers)) for view in range(n_views)]
        for place, i in enumerate(numbers):
            height, width = places.masks[int(i)].shape
            geometries = geometries_of(places.backbone, (width, height))
            yield upsampled([of_view[place] for of_view in logits], geometries, height, width)


def upsampled(
    logits: Sequence[NDArray[Any]], geometries: Sequence[Geometry], height: int, width: int
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Logits (K, rows, W) of the pixels of an image, averaged over the views that show them, in bands of its rows.

    The first view, of the image as it is, counts everywhere: a pixel that no view shows has the nearest of its places.
    """
    import torch

    grids = [torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)) for values in logits]
    step = max(1, BAND_BYTES // (4 * len(grids[0]) * width))
    shown = [geometry.shows(height, width) for geometry in geometries[1:]]
    for start in range(0, height, step):
        band = slice(start, min(start + step, height))
        total: torch.Tensor = geometries[0].spread(grids[0], height, width, band)
        n = torch.ones(total.shape[1:])
        for grid, geometry, shows in zip(grids[1:], geometries[1:], shown, strict=True):
            inside = torch.from_numpy(shows[band])
            total = total + torch.where(inside, geometry.spread(grid, height, width, band), 0.0)
            n = n + inside
        yield band, total / n
