"""Runs on images with a label per pixel: which heads fit them, what of it a backbone sees, and what is predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from probe.core.targets.number_map import NumberMap, NumberMaps
from probe.experiment.request import Run
from probe.heads.shared.abilities import GivesNumberMaps
from probe.heads.shared.dense_labels import SHOWN_BYTES
from probe.heads.shared.patch_head import PatchHead, PatchRows
from probe.heads.shared.patch_numbers import PatchNumbers
from probe.metrics.shared.scores.mask import ImageTally
from probe.metrics.shared.scores.number_map import ImageErrors
from probe.protocols.shared.tasks import ComesInTasks

if TYPE_CHECKING:
    import torch

    from probe.experiment.reading import Part
    from probe.heads.shared.base import AnyHead

BAND_BYTES = 2**28
"""Logits of the pixels of an image are computed in bands of rows of this size."""
LOGITS_BYTES = 2**26
"""Of the places of the images that are predicted at once."""

ON_PATCHES: Mapping[str, tuple[str, Callable[[Any, Run], PatchRows]]] = {
    "mask": ("one_class", lambda head, request: PatchHead(head, **request.patches)),
    "number_map": ("number", lambda head, request: PatchNumbers(head)),
}
"""By what a label of a pixel is: what heads of rows have to fit, and what makes one of them a head of places."""


def pixels_of(partition: Any) -> Any:
    """Masks or maps of a partition whose images have a label per pixel."""
    return partition.masks if isinstance(partition, HasMasks) else partition.number_maps


def fits_patches(head: Any, target: str) -> bool:
    """Whether a head, or a class of heads, can take the places of a map as rows, where labels of pixels are such."""
    return (
        ON_PATCHES[target][0] in getattr(head, "fits", ())
        and head.consumes == ("pooled",)
        and not head.reads_texts
        and not hasattr(head, "measure")
    )


def with_places(request: Run) -> Run:
    """The request with a head of pooled features fitted on patches, and layers under the names of their maps.

    Raises:
        InputError: What is asked for besides has no meaning for labels of pixels.
    """
    layers = "map" if request.reads.get("map") is None else request.reads["map"]
    if not request.dataset.target.per_pixel:
        if not isinstance(layers, str):
            raise InputError(
                f"reads.map lists {len(layers)} layers, which heads of a label per pixel read side by side, dataset "
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
    target = request.dataset.target.name
    if fits_patches(head, target) and not (head.needs_teacher or head.balances_groups):
        head = ON_PATCHES[target][1](head, request)
    return replace(request, head=head, reads={**request.reads, "map": named[0] if len(named) == 1 else named})


def _check_extras(request: Run) -> None:
    """Refuses what a run on labels of pixels has no place for."""
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
            "views.use=draw gives a row another view in each epoch, where pixels have labels heads learn from all "
            "views: set views.use=mean, which averages what they say where they show a pixel"
        )


def check_geometry(request: Run) -> None:
    """Refuses a backbone that does not say where its input lies in an image."""
    backbone = request.backbone
    if not request.dataset.target.per_pixel:
        return
    if not isinstance(backbone, Located):
        raise DoesNotFit(
            f"backbone {backbone.name} does not say where its input lies in an image, dataset {request.dataset.name} "
            f"has {request.dataset.target.phrase}: choose tiny, timm, open_clip, huggingface or module"
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


def no_label(dtype: Any) -> Any:
    """What stands where a pixel has no label, in labels of a dtype: the largest code, or NaN."""
    return np.nan if np.dtype(dtype).kind == "f" else int(np.iinfo(dtype).max)


class SeenMasks:
    """Masks or maps (n, height, width) as a backbone sees them in one of its views; looks like an array to heads."""

    def __init__(self, masks: Masks | NumberMaps, backbone: Any, view: int):
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
            found[place] = geometry.seen(mask, height, width, no_label(self.dtype))
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True)
class Places:
    """The pixels of some images.

    Attributes:
        masks: What pixels are labelled as, at the size of the image: masks, or maps of numbers.
        seen: (V n, height, width) as the backbone sees them, the views one below the other.
        backbone: That says where its views lie.
    """

    masks: Masks | NumberMaps
    seen: Any
    backbone: Any


def in_places(part: Part, partition: str, dataset: Dataset, backbone: Any) -> Part:
    """Rows of a split as heads of pixels learn from them: all views, and labels as the backbone sees them.

    Args:
        part: With the rows of the first view.
        partition: Its name.
        dataset: With the labels of pixels.
        backbone: That extracted them.
    """
    whole: Any = dataset.partitions[partition]
    if part.X is None or not dataset.target.per_pixel:
        return part
    n_views = backbone.n if isinstance(backbone, MultiView) else 1
    masks = pixels_of(whole).rows(part.rows)
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


def errors(head: AnyHead, part: Part, target: NumberMap) -> list[ImageErrors]:
    """The same of numbers."""
    assert part.places is not None
    maps = part.places.masks
    return [ImageErrors.of(numbers, maps[i], target) for i, numbers in enumerate(predictions(head, part))]


def prediction(head: Any, part: Part, place: int) -> NDArray[Any]:
    """(H, W) class or number of each pixel of one of some images, by its place among them."""
    places = part.places
    assert places is not None
    rows = np.arange(place, len(part.X), len(places.masks))
    one = replace(places, masks=places.masks.rows(np.array([place])))
    return next(predictions(head, replace(part, X=RowSubset(part.X, rows), places=one)))


def predictions(head: Any, part: Part) -> Iterator[NDArray[Any]]:
    """(H, W) class or number of each pixel of some images, in order."""
    for bands in outputs_of_pixels(head, part):
        if isinstance(head, GivesNumberMaps):
            yield np.concatenate([numbers[0].numpy() for _, numbers in bands])
        else:
            yield head.classes_[likeliest(bands)]


def likeliest(bands: Iterable[tuple[slice, torch.Tensor]]) -> NDArray[np.int64]:
    """(H, W) number of the class with the largest logit."""
    found: NDArray[np.int64] = np.concatenate([logits.argmax(0).numpy() for _, logits in bands])
    return found


def outputs_of_pixels(head: Any, part: Part) -> Iterator[Iterator[tuple[slice, torch.Tensor]]]:
    """Logits, or the number, of the pixels of some images, as `upsampled` has them; a chunk of images at a time."""
    places = part.places
    assert places is not None
    n = len(places.masks)
    n_views = len(part.X) // n
    of_numbers = isinstance(head, GivesNumberMaps)
    smaller = max(1, (1 if of_numbers else len(head.classes_)) // part.X.shape[1])
    outputs = (lambda X: head.number_maps(X)[:, None]) if of_numbers else head.logits
    for rows in row_chunks(RowSubset(part.X, np.arange(n)), LOGITS_BYTES // smaller):
        numbers = np.arange(n)[rows]
        of_views = [outputs(RowSubset(part.X, view * n + numbers)) for view in range(n_views)]
        for place, i in enumerate(numbers):
            height, width = places.masks[int(i)].shape
            geometries = geometries_of(places.backbone, (width, height))
            yield upsampled([of_view[place] for of_view in of_views], geometries, height, width)


def upsampled(
    logits: Sequence[NDArray[Any]], geometries: Sequence[Geometry], height: int, width: int
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Outputs (K, rows, W) of the pixels of an image, averaged over the views that show them, in bands of its rows.

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
