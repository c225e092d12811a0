"""What a run will take, before it begins: memory of the fit, and the disk that its features need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from probe.core.abilities import Tapped
from probe.core.device import resolve_device
from probe.core.memory import available_bytes
from probe.core.rows import rows_of
from probe.experiment.reading import MEAN, sources
from probe.experiment.request import Drawn
from probe.features.extraction.batches import collate
from probe.features.layout import requested_dtypes, stored_dtype
from probe.heads.shared.forecast import Forecast

Shapes = Mapping[str, tuple[int, ...]]


def of_fit(drawn: Drawn, shapes: Shapes) -> Forecast | None:
    """What the fit of a run will take; None where its head reads what these shapes do not tell of.

    Args:
        drawn: The run, with its rows.
        shapes: Of one row of each kind that the backbone gives.
    """
    asked, head = drawn.checked.asked, drawn.checked.head
    read = {kind: _read(kind, asked.reads, shapes) for kind in head.consumes}
    known = {kind: shape for kind, shape in read.items() if shape is not None}
    if len(known) < len(read):
        return None
    n_rows = len(drawn.split.train) + len(drawn.split.validation)
    return head.forecast(n_rows, known, len(asked.dataset.class_names))


def _read(kind: str, reads: Mapping[str, object], shapes: Shapes) -> tuple[int, ...] | None:
    """The shape of one row of what stands in for a kind; None of several layers together, and of what is not there."""
    (source, entry), *more = sources([kind], reads)
    shape = shapes.get(source)
    if more or shape is None or entry is None:
        return None if more else shape
    return shape[-1:] if entry == MEAN else shape[1:]


def row_bytes(kind: str, shape: Sequence[int]) -> int:
    """Bytes of one row of a kind in the store, in the dtype that it is stored in by default."""
    dtype = stored_dtype(requested_dtypes({kind: None})[kind], 1 + len(shape))
    return math.ceil(math.prod(shape) * np.dtype(dtype).itemsize)


def doubt(drawn: Drawn) -> str | None:
    """A sentence on a run whose fit will not find the memory that its head is known to take; None of any other."""
    found = of_fit(drawn, _shapes(drawn))
    return None if found is None or found.is_guess else beyond_memory(drawn, found)


def _shapes(drawn: Drawn) -> Shapes:
    """Of one row of each kind: what the backbone says; of vectors, which cost little, what it gives of the first."""
    asked = drawn.checked.asked
    if isinstance(asked.backbone, Tapped):
        return asked.backbone.shapes
    if rows_of(asked.dataset) != "vectors":
        return {}
    shown = asked.dataset.leading
    given = asked.backbone.extract(collate(asked.backbone, [asked.backbone.transform(shown[0])]), asked.backbone.kinds)
    return {kind: tuple(value.shape[1:]) for kind, value in given.items()}


def beyond_memory(drawn: Drawn, found: Forecast) -> str | None:
    """A sentence where the memory that a fit takes is more than there is; None where it fits."""
    device = resolve_device(drawn.checked.asked.device)
    available = available_bytes(device)
    if found.bytes <= available:
        return None
    n_rows = len(drawn.split.train) + len(drawn.split.validation)
    return (
        f"fitting {type(drawn.checked.head).__name__} on {n_rows:,} rows takes about {gigabytes(found.bytes)} of "
        f"memory and {device} has {gigabytes(available)} left: take fewer rows (limit=<number>), another head such as "
        "head=ncm, or a machine with more"
    )


def gigabytes(n_bytes: float) -> str:
    """As people say it."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.0f} MB"
