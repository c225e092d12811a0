"""Whether a backbone keeps its contract, before any run: the table behind `probe check`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.abilities import Tapped
from probe.core.base import Backbone
from probe.core.errors import ProbeError
from probe.core.ragged import Ragged
from probe.features.extraction.batches import collate
from probe.features.extraction.guard import TOLERANCES

if TYPE_CHECKING:
    from torch import Tensor

N_ROWS = 6
CHECKS = {
    "twice": "differ between two extractions of the same rows: they hang on chance or on a state of the network",
    "alone": "differ between a batch and a row alone: they hang on the other rows of a batch, or on their lengths",
    "padding": "hang on what stands in the padding: use the mask in every pooling",
    "cpu": "differ between this device and the CPU: compute in float32 without TF32",
}
"""What is checked, and what it means where it fails."""


@dataclass(frozen=True)
class Checked:
    """What was found of one kind of features.

    Attributes:
        shape: Of one row; -1 where rows differ in length.
        changes: Check -> largest relative change of a row; None where there is nothing to check.
        faults: A clause for each check that failed.
    """

    shape: tuple[int, ...]
    changes: Mapping[str, float | None]
    faults: Sequence[str]


def check(backbone: Backbone, rows: Sequence[Any], device: str) -> dict[str, Checked]:
    """Every kind that a backbone gives of some rows: shape, and whether it is a function of the row alone.

    Args:
        backbone: It is on the CPU afterwards.
        rows: As a dataset gives them, best of several lengths where its rows have such.
        device: `cpu`, or the one that features are compared with those of the CPU on.
    """
    backbone.to(device)
    read = [backbone.transform(row) for row in rows]
    batch = collate(backbone, read)
    given = _features(backbone, batch)
    found: dict[str, Any] = {"twice": _features(backbone, collate(backbone, [backbone.transform(row) for row in rows]))}
    found["alone"] = _alone(backbone, read)
    other = _with_other_padding(batch)
    found["padding"] = None if other is None else _features(backbone, other)
    found["cpu"] = None if device == "cpu" else _features(backbone.to("cpu"), batch)
    backbone.to("cpu")
    shapes = backbone.shapes if isinstance(backbone, Tapped) else {}
    tolerance = TOLERANCES[getattr(backbone, "precision", "float32")]
    checked = {}
    for kind, of_rows in given.items():
        finite = all(np.isfinite(row).all() for row in of_rows)
        changes = {name: _change(of_rows, of[kind]) if of and finite else None for name, of in found.items()}
        faults = [CHECKS[name] for name, change in changes.items() if change is not None and not change <= tolerance]
        sizes = {row.shape for row in of_rows}
        shape = of_rows[0].shape if len(sizes) == 1 else (-1, *of_rows[0].shape[1:])
        if not finite:
            faults.insert(0, "are not finite: look at the weights")
        if len(sizes) == 1 and tuple(shapes.get(kind, shape)) != shape:
            faults.insert(0, f"have the shape {shape} and not {tuple(shapes[kind])}, as the backbone says of itself")
        checked[kind] = Checked(shape, changes, faults)
    return checked


def made_rows(reads: str) -> list[Any]:
    """A few rows of a sort, at random; texts and series differ in length."""
    from PIL import Image

    random = np.random.default_rng(0)
    if reads == "texts":
        return [" ".join(random.choice(["one", "small", "step", "for", "a", "man"], 3 + 4 * i)) for i in range(N_ROWS)]
    if reads == "series":
        return [random.normal(size=(64 + 16 * i, 3)).cumsum(axis=0) for i in range(N_ROWS)]
    if reads == "vectors":
        return list(random.normal(size=(N_ROWS, 16)))
    return [Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8)) for _ in range(N_ROWS)]


def lines(backbone: Backbone, checked: Mapping[str, Checked]) -> Iterator[str]:
    """The table, and a sentence for every fault."""
    table = [["kind", "shape", *CHECKS, ""]]
    for kind, found in checked.items():
        shape = " x ".join("T" if n < 0 else str(n) for n in found.shape)
        table.append([kind, shape, *map(_told, found.changes.values()), "no" if found.faults else "ok"])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    for kind, found in checked.items():
        yield from (f"{kind} features of backbone {backbone.name} {fault}" for fault in found.faults)


def _told(change: float | None) -> str:
    return "-" if change is None else "same" if change == 0 else f"{change:.1e}"


def _features(backbone: Backbone, batch: Any) -> dict[str, list[NDArray[Any]]]:
    """The features of each row by kind; of rows that differ in length their own tokens."""
    import torch

    with torch.inference_mode():
        given: Mapping[str, Any] = backbone.extract(batch, backbone.kinds)
    return {kind: _rows(value) for kind, value in given.items()}


def _rows(value: Any) -> list[NDArray[Any]]:
    if isinstance(value, Ragged):
        return np.split(value.values.float().cpu().numpy(), np.cumsum(np.asarray(value.lengths))[:-1])
    return list(value.float().cpu().numpy())


def _alone(backbone: Backbone, read: Sequence[Any]) -> dict[str, list[NDArray[Any]]]:
    """Features of each row in a batch of its own; none of rows that are refused so."""
    try:
        singly = [_features(backbone, collate(backbone, [row])) for row in read]
    except ProbeError:
        raise
    except Exception:  # whatever a network of someone else's raises on a batch of one
        return {kind: [] for kind in backbone.kinds}
    return {kind: [row for of_row in singly for row in of_row[kind]] for kind in singly[0]}


def _with_other_padding(batch: Any) -> Any:
    """The batch with other numbers wherever its mask says that there is nothing; None where it has no padding."""
    import torch

    mask = next((v for k, v in batch.items() if k.endswith("mask")), None) if isinstance(batch, Mapping) else None
    if mask is None or bool(mask.bool().all()):
        return None

    def changed(name: str, part: Tensor) -> Tensor:
        if part.shape[:2] != mask.shape or not (part.is_floating_point() or name.endswith("ids")):
            return part
        nothing = ~mask.bool().reshape(*mask.shape, *[1] * (part.ndim - 2))
        value = 10 * part.abs().max() + 1 if part.is_floating_point() else part.max()
        return torch.where(nothing, value, part)

    return {name: changed(name, part) for name, part in batch.items()}


def _change(one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> float:
    """Largest distance of a row's features from each other, as a share of a usual row's size."""
    if len(one) != len(other) or any(a.shape != b.shape for a, b in zip(one, other, strict=True)):
        return math.inf
    size = float(np.mean([np.linalg.norm(a) for a in one])) or 1.0
    return max(float(np.linalg.norm(a.astype(np.float64) - b)) for a, b in zip(one, other, strict=True)) / size
