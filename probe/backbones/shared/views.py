"""Several views of each image: a backbone around a backbone, whose features have one more axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image, ImageOps

from probe.core.abilities import Notes
from probe.core.base import Backbone
from probe.core.errors import DoesNotFit, InputError
from probe.core.geometry import Geometry, Located, Size, whole
from probe.core.hashing import hash_bytes
from probe.core.images import require_image
from probe.core.source import identity_of

if TYPE_CHECKING:
    from torch import Tensor

USES = ("mean", "draw")
CORNER = 0.875
"""Side of a corner crop, as a share of the image's shorter side: 224 of 256 pixels."""
SMALLEST = 0.5
"""Share of both sides that the last of the scales keeps."""
AREA = (0.35, 1.0)
ASPECT = (3 / 4, 4 / 3)
RECIPE = "1"
"""To be changed together with anything that changes a pixel of a view."""
Random = Callable[[], np.random.Generator]
"""Draws that follow from an image, for the sorts of views that draw; it costs a look at all pixels."""


def flips(size: Size, n: int, chance: Random) -> list[Geometry]:
    """The mirrored image."""
    return [replace(whole(size), flipped=True)]


def corners(size: Size, n: int, chance: Random) -> list[Geometry]:
    """Squares in the four corners."""
    side = max(1, round(CORNER * min(size)))
    right, bottom = size[0] - side, size[1] - side
    return [Geometry((x, y, x + side, y + side)) for y in (0, bottom) for x in (0, right)]


def scales(size: Size, n: int, chance: Random) -> list[Geometry]:
    """Ever smaller middles, down to `SMALLEST` of both sides."""
    views = []
    for share in np.linspace(1, SMALLEST, n)[1:]:
        width, height = (max(1, round(share * side)) for side in size)
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        views.append(Geometry((left, top, left + width, top + height)))
    return views


def crops(size: Size, n: int, chance: Random) -> list[Geometry]:
    """Random crops of `AREA` of the image with `ASPECT` of its own proportions, mirrored by a coin.

    The draws follow from the seed and the pixels: where an image stands, and who extracts it, moves none. More views
    begin with those of fewer.
    """
    random = chance()
    views = []
    for _ in range(n - 1):
        area, aspect, x, y, coin = random.random(5)
        area = AREA[0] + area * (AREA[1] - AREA[0])
        aspect = math.exp(math.log(ASPECT[0]) + aspect * math.log(ASPECT[1] / ASPECT[0]))
        shares = min(1.0, math.sqrt(area * aspect)), min(1.0, math.sqrt(area / aspect))
        width, height = (max(1, round(share * side)) for share, side in zip(shares, size, strict=True))
        left, top = round(x * (size[0] - width)), round(y * (size[1] - height))
        views.append(Geometry((left, top, left + width, top + height), flipped=coin < 0.5))
    return views


def windows(size: Size, n: int, chance: Random) -> list[Geometry]:
    """Equal squares side by side over the image, n - 1 of them, a square number: see through a magnifying glass.

    Neighbours meet without overlap, so that no pixel is seen by two of them.
    """
    per_side = math.isqrt(n - 1)
    edges = [[round(i * side / per_side) for i in range(per_side + 1)] for side in size]
    spans = [[*itertools.pairwise(along)] for along in edges]
    return [Geometry((a, b, c, d)) for b, d in spans[1] for a, c in spans[0]]


def views_of(image: Image.Image, kind: str, n: int, seed: int) -> list[Image.Image]:
    """The views of an image beside the first."""

    def chance() -> np.random.Generator:
        content = int(hash_bytes(image.tobytes() + repr(image.size).encode())[:16], 16)
        return np.random.default_rng([seed, content])

    return [cut(image, view) for view in SORTS[kind][0](image.size, n, chance)]


def cut(image: Image.Image, view: Geometry) -> Image.Image:
    """The part of an image that a view shows."""
    left, top, right, bottom = (int(edge) for edge in view.box)
    part = image if (left, top, right, bottom) == (0, 0, *image.size) else image.crop((left, top, right, bottom))
    return ImageOps.mirror(part) if view.flipped else part


SORTS: dict[str, tuple[Callable[[Size, int, Random], list[Geometry]], int | None]] = {
    "flips": (flips, 2), "corners": (corners, 5), "scales": (scales, None), "crops": (crops, None),
    "windows": (windows, None),
}  # fmt: skip
"""How views beside the first are made, and how many there are in all; None for any number."""
SQUARES = ("windows",)
"""Sorts of which there are one more than a square number."""


class MultiView:
    """Features of the image as it is, then of further views of it: every kind (N, ...) becomes (N, V, ...).

    A view is cut out of the image before the backbone's own transform, so that any backbone of images takes part.

    Args:
        backbone: Of images.
        n: Views of each image, V.
        kind: `crops`, `flips` (2 views), `corners` (5), `scales`, or `windows` (5, 10, 17 ...: the image, then
            squares that tile it).
        seed: Of the crops.
        use: What a run makes of them: `mean` averages the features; `draw` has the heads that train by mini-batches
            see one of them per row and epoch, and everybody else the first.
    """

    reads = "images"

    def __init__(self, backbone: Backbone, n: int = 2, kind: str = "crops", seed: int = 0, use: str = "mean"):
        wrong = []
        if kind not in SORTS:
            wrong.append(f"views.kind is {kind!r}, expected one of {', '.join(SORTS)}")
        elif n != (SORTS[kind][1] or n) or n < 2:
            wrong.append(f"views.n is {n}, expected {SORTS[kind][1] or 'at least 2'} for {kind}")
        elif kind in SQUARES and math.isqrt(n - 1) ** 2 != n - 1:
            wrong.append(f"views.n is {n}, expected 5, 10, 17 or another square number and one for {kind}")
        if use not in USES:
            wrong.append(f"views.use is {use!r}, expected one of {', '.join(USES)}")
        if wrong:
            raise InputError("; ".join(wrong) + ": change it, or set views.n=1 for the image alone")
        if (reads := getattr(backbone, "reads", "images")) != "images":
            raise InputError(f"views are made of images, backbone {backbone.name} reads {reads}: set views.n=1")
        self.backbone, self.n, self.kind, self.seed, self.use = backbone, n, kind, seed, use
        self.name = f"{backbone.name} {n} {kind}{' drawn' if use == 'draw' else ''}"
        self.n_prefix_tokens = backbone.n_prefix_tokens
        self.n_parameters = backbone.n_parameters

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of features it gives."""
        return self.backbone.kinds

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one view of each kind."""
        return getattr(self.backbone, "shapes", {})

    @property
    def taps(self) -> tuple[str, ...]:
        """The tapped layers."""
        return getattr(self.backbone, "taps", ())

    @property
    def text(self) -> Any:
        """The text tower, where the backbone has one."""
        return self.backbone.text  # type: ignore[attr-defined]

    def identity(self) -> dict[str, Any]:
        """Facts that determine every feature: those of the backbone, and how views are made."""
        views = {"kind": self.kind, "n": self.n, "recipe": RECIPE}
        return {**identity_of(self.backbone), "views": views | ({"seed": self.seed} if self.kind == "crops" else {})}

    def transform(self, row: Any) -> Tensor:
        """One image as a (V, ...) tensor."""
        import torch

        if not isinstance(row, Image.Image):
            raise InputError(f"views are made of images, this dataset's rows are {type(row).__name__}: set views.n=1")
        image = require_image(row, self.name)
        views = [image, *views_of(image, self.kind, self.n, self.seed)]
        tensors: list[Any] = [self.backbone.transform(view) for view in views]
        return torch.stack(tensors)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the input of each view."""
        found: tuple[int, int] = self.backbone.image_size  # type: ignore[attr-defined]
        return found

    def geometry(self, size: Size) -> Geometry:
        """What the first view shows."""
        return self.geometries(size)[0]

    def geometries(self, size: Size) -> list[Geometry]:
        """What each view shows of an image of (width, height).

        Raises:
            DoesNotFit: The backbone does not say what it shows, or the views follow from the pixels.
        """
        if not isinstance(self.backbone, Located):
            raise DoesNotFit(
                f"backbone {self.backbone.name} does not say where its input lies in an image: set views.n=1"
            )
        if self.kind == "crops":
            raise DoesNotFit(
                "crops are drawn by the pixels of each image, masks cannot follow them: set views.kind=flips "
                "views.n=2, or views.kind=windows"
            )

        parts = [whole(size), *SORTS[self.kind][0](size, self.n, np.random.default_rng)]
        sizes = [(round(part.box[2] - part.box[0]), round(part.box[3] - part.box[1])) for part in parts]
        return [part.then(self.backbone.geometry(own)) for part, own in zip(parts, sizes, strict=True)]

    @property
    def notes(self) -> Mapping[str, str]:
        """What the backbone has to say of its kinds."""
        return self.backbone.notes if isinstance(self.backbone, Notes) else {}

    def extract(self, batch: Tensor, kinds: Sequence[str]) -> dict[str, Tensor]:
        """Features of a (N, V, ...) batch, view by view."""
        import torch

        given = [self.backbone.extract(batch[:, view], kinds) for view in range(batch.shape[1])]
        return {kind: torch.stack([features[kind] for features in given], dim=1) for kind in kinds}

    def to(self, device: str) -> Self:
        """Moves the network."""
        self.backbone.to(device)
        return self
