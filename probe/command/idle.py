"""Settings that were changed and that nothing in the run reads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from probe.heads.shared.patch_head import PatchHead

if TYPE_CHECKING:
    from probe.core.base import Dataset

LEVEL = 0.9
VIEWS = {"kind": "crops", "seed": 0, "use": "mean"}


def tell_idle(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Warns of them in a sentence each: a sweep may leave them be, who typed one expects it to do something."""
    said, views, sets = [], config.get("views") or {}, not dataset.target.per_pixel
    if (level := config.get("conformal_level", LEVEL)) != LEVEL and not (config.get("calibrate") and sets):
        why = (
            "no sets are made"
            if sets
            else f"dataset {dataset.name} has {dataset.target.phrase}, of which no sets are made"
        )
        said.append((f"conformal_level={level}", why, "set calibrate=true" if sets else "leave it out"))
    if changed := _changed("views", views, VIEWS) if views.get("n") == 1 else []:
        n = {"flips": 2, "corners": 5, "windows": 5}.get(views["kind"], 4)
        said.append((" ".join(changed), "each image has one view", f"set views.n={n}"))
    changed = _changed("patches", config.get("patches") or {}, PatchHead().facts)
    if changed and dataset.target.name != "mask":
        said.append((" ".join(changed), f"dataset {dataset.name} has no masks", "leave it out"))
    for words, why, remedy in said:
        warnings.warn(f"{words} changes nothing, since {why}: {remedy}", stacklevel=3)


def _changed(group: str, given: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    return [f"{group}.{name}={given[name]}" for name in usual if given.get(name, usual[name]) != usual[name]]
