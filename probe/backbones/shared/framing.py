"""What the transforms of timm, open_clip and transformers show of an image, from the settings that identities hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from probe.core.errors import DoesNotFit
from probe.core.geometry import Geometry, Size, kept_ratio, shorter_side, whole, window

CUSTOM = ("resize", "center_crop", "_preprocess", "preprocess", "pad")
"""What a processor of transformers that resizes in a way of its own overrides."""


def of_timm(config: Mapping[str, Any], size: Size) -> Geometry:
    """What timm's evaluation transform shows of an image of a size, by `crop_mode` and `crop_pct`."""
    height, width = config["input_size"][1:]
    large = (math.floor(width / config["crop_pct"]), math.floor(height / config["crop_pct"]))
    mode = config.get("crop_mode")
    if mode == "squash":
        return window(size, large, (width, height))
    if mode == "border":
        return window(size, kept_ratio(size, large, longest=True), (width, height))
    scaled = shorter_side(size, large[0]) if large[0] == large[1] else kept_ratio(size, large, longest=False)
    return window(size, scaled, (width, height))


def of_open_clip(config: Mapping[str, Any], size: Size, shown: Size) -> Geometry:
    """What open_clip's evaluation transform shows of an image of a size, by `resize_mode`."""
    if config["resize_mode"] == "squash":
        return whole(size)
    if config["resize_mode"] == "longest":
        return window(size, kept_ratio(size, shown, longest=True), shown)
    scaled = shorter_side(size, shown[0]) if shown[0] == shown[1] else kept_ratio(size, shown, longest=False)
    return window(size, scaled, shown)


def of_processor(processor: Any, size: Size, name: str) -> Geometry:
    """What an image processor of transformers shows of an image of a size: it resizes, then crops.

    Raises:
        DoesNotFit: It does more, in a way that its settings do not tell.
    """
    facts = processor.to_dict()
    wanted, crop = (
        {key: value for key, value in (facts.get(option) or {}).items() if value} for option in ("size", "crop_size")
    )
    scaled: Size | None = size
    if type(processor).__name__.startswith("ConvNextImageProcessor"):
        side = wanted["shortest_edge"]
        small = side < 384
        scaled = shorter_side(size, int(side / facts["crop_pct"])) if small else (side, side)
        crop = {"height": side, "width": side} if small else {}
    elif _is_custom(processor) or facts.get("do_pad"):
        scaled = None
    elif facts.get("do_resize"):
        scaled = _resized(size, wanted)
        crop = crop if facts.get("do_center_crop") else {}
    if scaled is None:
        raise DoesNotFit(
            f"backbone {name} prepares images by {type(processor).__name__}, of which it is not known where its output "
            "lies in the image: choose a model whose processor resizes and crops (ViT, CLIP, DINOv2, ConvNeXT), or "
            "backbone=timm"
        )
    return window(size, scaled, (crop["width"], crop["height"]) if crop else scaled, int)


def _is_custom(processor: Any) -> bool:
    """Whether its class overrides what all processors of transformers share."""
    own = [kind for kind in type(processor).__mro__ if ".models." in kind.__module__]
    return any(name in vars(kind) for kind in own for name in CUSTOM)


def _resized(size: Size, wanted: Mapping[str, int]) -> Size | None:
    if wanted.keys() == {"height", "width"}:
        return wanted["width"], wanted["height"]
    return shorter_side(size, wanted["shortest_edge"]) if wanted.keys() == {"shortest_edge"} else None
