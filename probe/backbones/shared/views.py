"""Several views of each image: a backbone around a backbone, whose features have one more axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image, ImageOps

from probe.core.base import Backbone, Notes
from probe.core.errors import InputError
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


def flips(image: Image.Image, n: int, seed: int) -> list[Image.Image]:
    """The mirrored image."""
    return [ImageOps.mirror(image)]


def corners(image: Image.Image, n: int, seed: int) -> list[Image.Image]:
    """Squares in the four corners."""
    side = max(1, round(CORNER * min(image.size)))
    right, bottom = image.width - side, image.height - side
    return [image.crop((x, y, x + side, y + side)) for y in (0, bottom) for x in (0, right)]


def scales(image: Image.Image, n: int, seed: int) -> list[Image.Image]:
    """Ever smaller middles, down to `SMALLEST` of both sides."""
    views = []
    for share in np.linspace(1, SMALLEST, n)[1:]:
        width, height = (max(1, round(share * side)) for side in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        views.append(image.crop((left, top, left + width, top + height)))
    return views


def crops(image: Image.Image, n: int, seed: int) -> list[Image.Image]:
    """Random crops of `AREA` of the image with `ASPECT` of its own proportions, mirrored by a coin.

    The draws follow from the seed and the pixels: where an image stands, and who extracts it, moves none. More views
    begin with those of fewer.
    """
    content = int(hash_bytes(image.tobytes() + repr(image.size).encode())[:16], 16)
    random = np.random.default_rng([seed, content])
    views = []
    for _ in range(n - 1):
        area, aspect, x, y, coin = random.random(5)
        area = AREA[0] + area * (AREA[1] - AREA[0])
        aspect = math.exp(math.log(ASPECT[0]) + aspect * math.log(ASPECT[1] / ASPECT[0]))
        shares = min(1.0, math.sqrt(area * aspect)), min(1.0, math.sqrt(area / aspect))
        width, height = (max(1, round(share * side)) for share, side in zip(shares, image.size, strict=True))
        left, top = round(x * (image.width - width)), round(y * (image.height - height))
        view = image.crop((left, top, left + width, top + height))
        views.append(ImageOps.mirror(view) if coin < 0.5 else view)
    return views


SORTS = {"flips": (flips, 2), "corners": (corners, 5), "scales": (scales, None), "crops": (crops, None)}
"""How views beside the first are made, and how many there are in all; None for any number."""


class MultiView:
    """Features of the image as it is, then of further views of it: every kind (N, ...) becomes (N, V, ...).

    A view is cut out of the image before the backbone's own transform, so that any backbone of images takes part.

    Args:
        backbone: Of images.
        n: Views of each image, V.
        kind: `crops`, `flips` (2 views), `corners` (5) or `scales`.
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
        views = [image, *SORTS[self.kind][0](image, self.n, self.seed)]
        tensors: list[Any] = [self.backbone.transform(view) for view in views]
        return torch.stack(tensors)

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
