"""What a run would cost, before anything is extracted: the facts behind `probe describe`."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from probe.command.mask_facts import beside_masks, mask_facts, told, with_legend
from probe.core.abilities import CountsTokens, Notes
from probe.core.base import Backbone, Dataset
from probe.core.escaping import one_line
from probe.core.ragged import Ragged
from probe.core.rows import check_rows, rows_of, series_lengths
from probe.core.words import counted
from probe.datasets.shared.caption_rows import notes_of_copies
from probe.datasets.shared.partitions import LEFT_OUT, count_duplicates
from probe.experiment.forecast import row_bytes
from probe.features.extraction.batches import collate

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


@runtime_checkable
class Compiles(Protocol):
    """A backbone that can run as a compiled program.

    Attributes:
        program_rows: Of each call; 0 where it is not compiled.
    """

    @property
    def program_rows(self) -> int: ...
    def uncompiled(self) -> AbstractContextManager[None]:
        """Within, it runs as it is."""
        ...


N_BATCHES = 5
N_PICTURES = 16
N_LAYERS = 24
EXAMPLE_LETTERS = 100
PICTURE_PIXELS, CAPTION_PIXELS, GAP_PIXELS = 96, 16, 2
"""Of the contact sheet: least side of a picture, what stands below it, and between two."""


def describe(backbone: Backbone, dataset: Dataset, batch_size: int = 16) -> dict[str, Any]:
    """Facts about both, with the time measured on five batches of training rows in this process, else of test rows.

    Bytes are those of the dtypes that are stored by default; FLOPs count a multiply-add as two.
    """

    check_rows(backbone, dataset)
    program = backbone if isinstance(backbone, Compiles) and backbone.program_rows else None
    batch_size = max(batch_size, program.program_rows if program else 0)
    shown = dataset.leading
    rows = np.linspace(0, len(shown) - 1, min(len(shown), N_BATCHES * batch_size)).astype(int)
    start = time.perf_counter()
    read = [backbone.transform(shown[int(row)]) for row in rows]
    transform_seconds = (time.perf_counter() - start) / len(rows)
    batches = [collate(backbone, read[at : at + batch_size]) for at in range(0, len(read), batch_size)]
    start = time.perf_counter()
    features = backbone.extract(batches[0], backbone.kinds)
    first_seconds = time.perf_counter() - start
    shapes = {kind: _shape(value) for kind, value in features.items()}
    forward_seconds = _forward_seconds(backbone, batches) / len(rows)
    compiled = None
    if program:
        with program.uncompiled():
            eager_seconds = _forward_seconds(backbone, batches) / len(rows)
        compiled = {"seconds": first_seconds, "eager_rows_per_second": 1 / eager_seconds, "pays_from": math.inf}
        if forward_seconds < eager_seconds:
            compiled["pays_from"] = first_seconds / (eager_seconds - forward_seconds)
    n_rows = {part: len(p) for part, p in dataset.partitions.items()}
    total = sum(n_rows.values())
    what, spread_of, spread = dataset.target.described(np.asarray(shown.labels), dataset.class_names)
    return {
        "backbone": backbone.name,
        "n_parameters": backbone.n_parameters,
        "flops_per_row": _flops(backbone, collate(backbone, read[:1])),
        "notes": {
            **(dict(backbone.notes) if isinstance(backbone, Notes) else {}),
            **({"rows": copies[0]} if (copies := notes_of_copies(dataset)) else {}),
        },
        "tokens": _tokens(backbone, [shown[int(row)] for row in rows]) if isinstance(backbone, CountsTokens) else None,
        "masks": mask_facts(backbone, dataset, shapes),
        "series": _series(dataset) if rows_of(dataset) == "series" else None,
        "shapes": shapes,
        "bytes_per_kind": {kind: total * row_bytes(kind, shape) for kind, shape in shapes.items()},
        "layers": list(getattr(backbone, "layers", ())),
        "dataset": dataset.name,
        "rows": n_rows,
        "left_out": list(dataset.notes.get(LEFT_OUT, ())),
        "n_classes": len(dataset.class_names),
        "target": {"what": what, "spread_of": spread_of, "spread": spread},
        "rows_of_train_elsewhere": count_duplicates(dataset),
        "transform_rows_per_second": 1 / transform_seconds,
        "forward_rows_per_second": 1 / forward_seconds,
        "compiled": compiled,
        "minutes": total * (transform_seconds + forward_seconds) / 60,
    }


def _forward_seconds(backbone: Backbone, batches: list[Any]) -> float:
    start = time.perf_counter()
    for batch in batches:
        given = backbone.extract(batch, backbone.kinds)
    # Moving a value waits for the device.
    first = next(iter(given.values()))
    float((first.values if isinstance(first, Ragged) else first).flatten()[0])
    return time.perf_counter() - start


def _tokens(backbone: CountsTokens, texts: list[Any]) -> dict[str, Any]:
    """How long some texts are, how many of them are cut, and what one looks like."""
    lengths = np.array([backbone.n_tokens(text) for text in texts])
    first = backbone.as_read(texts[0])
    return {
        "median": float(np.median(lengths)),
        "most": int(lengths.max()),
        "read": backbone.max_length,
        "cut": float((lengths > backbone.max_length).mean()),
        "example": first if len(first) <= EXAMPLE_LETTERS else first[:EXAMPLE_LETTERS] + "…",
    }


def _series(dataset: Dataset) -> dict[str, int]:
    """How long the series are, of all partitions, and how many channels they have."""
    lengths = np.array(series_lengths(dataset))
    return {
        "n_channels": int(dataset.leading[0].shape[1]),
        "least": int(lengths.min()),
        "median": int(np.median(lengths)),
        "most": int(lengths.max()),
    }


def _shape(features: Any) -> tuple[int, ...]:
    """Of one row; where rows differ in length, of one of the mean length, rounded up."""
    if not isinstance(features, Ragged):
        return tuple(features.shape[1:])
    return (math.ceil(len(features.values) / max(1, len(features))), *features.values.shape[1:])


def render(facts: dict[str, Any]) -> str:
    """The facts as lines for a terminal."""
    kinds = [
        f"{k} {'x'.join(map(str, s))} ({facts['bytes_per_kind'][k] / 2**20:.1f} MiB)"
        for k, s in facts["shapes"].items()
    ]
    target, speed = facts["target"], "{:,.0f} rows/s read and transformed, {:,.0f} through the backbone"
    rows = ", ".join(f"{n:,} {part}" for part, n in facts["rows"].items())
    copies = [f"of {part} {counted(n, 'row')} in train too" for part, n in facts["rows_of_train_elsewhere"].items()]
    flops = f"{facts['flops_per_row'] / 1e9:.3g} GFLOP per row"
    lines = {
        "backbone": f"{facts['backbone']}, {facts['n_parameters']:,} parameters, {flops}",
        "features": "; ".join(kinds),
        **({"layers": _layers(facts["layers"])} if facts["layers"] else {}),
        "dataset": f"{facts['dataset']}, {target['what']}, {rows}",
        **(told(facts["masks"]) if facts["masks"] else {}),
        **({"series": _told_of_series(facts["series"])} if facts["series"] else {}),
        **({"tokens": _told(facts["tokens"]), "example": facts["tokens"]["example"]} if facts["tokens"] else {}),
        **({"left out": "; ".join(facts["left_out"])} if facts["left_out"] else {}),
        target["spread_of"]: target["spread"],
        **({"leakage": ", ".join(copies) or "not known for this kind of dataset"} if "train" in facts["rows"] else {}),
        "speed": speed.format(facts["transform_rows_per_second"], facts["forward_rows_per_second"]),
        **({"compiled": _gained(facts)} if facts["compiled"] else {}),
        "extraction": f"about {_duration(facts['minutes'])} in one process without workers",
    }
    if facts["notes"]:
        lines["note"] = "; ".join(facts["notes"].values())
    return "\n".join(f"{name:14} {one_line(text)}" for name, text in lines.items())


def _layers(names: list[str]) -> str:
    """What can be tapped, and how."""
    more = f", and {len(names) - N_LAYERS} more" if len(names) > N_LAYERS else ""
    return f"{', '.join(names[:N_LAYERS])}{more}; to read one: backbone.taps=[<layer>] reads.pooled=<layer>"


def _gained(facts: dict[str, Any]) -> str:
    """What compilation takes and brings."""
    compiled, rows = facts["compiled"], sum(facts["rows"].values())
    times = facts["forward_rows_per_second"] / compiled["eager_rows_per_second"]
    told = (
        f"{times:.2f} times the rows of backbone.compile=false, after {compiled['seconds']:.0f} s for the first batch"
    )
    if math.isinf(compiled["pays_from"]):
        return f"{told}: gains nothing"
    pays = compiled["pays_from"]
    return f"{told}: pays from {pays:,.0f} rows on, there are {rows:,}"


def _told(tokens: dict[str, Any]) -> str:
    return (
        f"median {tokens['median']:g} a text, at most {tokens['most']:,}; {tokens['read']:,} are read, "
        f"{100 * tokens['cut']:.0f} % of the texts are cut (of those looked at)"
    )


def _told_of_series(series: dict[str, int]) -> str:
    channels = counted(series["n_channels"], "channel")
    if series["least"] == series["most"]:
        return f"{channels}, {counted(series['most'], 'step')} each"
    return f"{channels}, {series['least']:,} to {series['most']:,} steps, median {series['median']:,}"


def _duration(minutes: float) -> str:
    n, unit = (60 * minutes, "second") if minutes < 2 else (minutes, "minute")
    return f"{n:.0f} {unit}{'s' * (f'{n:.0f}' != '1')}"


def contact_sheet(backbone: Backbone, dataset: Dataset) -> Image.Image | None:
    """Training images as the backbone sees them, each above its class; None for rows that are no images.

    Several views of an image stand side by side. Small images are enlarged by a whole factor, pixel by pixel.
    """
    from PIL import Image, ImageDraw

    shown = dataset.leading
    rows = np.linspace(0, len(shown) - 1, min(len(shown), N_PICTURES)).astype(int)
    if getattr(backbone, "reads", "images") != "images":
        return None
    tensors: list[Any] = [backbone.transform(shown[int(row)]) for row in rows]
    n_views = len(tensors[0]) if tensors[0].ndim == 4 else 1
    if tensors[0].ndim == 4:
        tensors, rows = [view for tensor in tensors for view in tensor], np.repeat(rows, n_views)
    if tensors[0].ndim != 3 or len(tensors[0]) != 3:
        return None
    steps = backbone.identity().get("preprocessing", {})
    pictures = [_pixels(tensor, steps.get("mean"), steps.get("std")) for tensor in tensors]
    pictures = beside_masks(pictures, rows.tolist(), backbone, dataset)
    factor = math.ceil(PICTURE_PIXELS / min(pictures[0].shape[:2]))
    height, width = (factor * side for side in pictures[0].shape[:2])
    n_columns = n_views * max(1, round(math.sqrt(len(pictures)) / n_views))  # views of an image share a line
    step_down, step_right = height + CAPTION_PIXELS, width + GAP_PIXELS
    sheet = Image.new("RGB", (n_columns * step_right, math.ceil(len(pictures) / n_columns) * step_down), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
        top, left = (i // n_columns) * step_down, (i % n_columns) * step_right
        sheet.paste(Image.fromarray(picture.repeat(factor, 0).repeat(factor, 1)), (left, top))
        caption = one_line(dataset.target.shown(shown.labels[row], dataset.class_names))
        while draw.textlength(caption) > width:
            caption = caption[:-2] + "…"
        draw.text((left, top + height + 1), caption, fill="black")
    return with_legend(sheet, dataset)


def _pixels(tensor: Tensor, mean: Any, std: Any) -> np.ndarray:
    """(H, W, 3) uint8 pixels of a transformed image; floats without known statistics are stretched to the range."""
    import torch

    tensor = tensor.permute(1, 2, 0)
    if tensor.dtype == torch.uint8:
        return tensor.numpy()
    values = tensor.float().numpy()
    if mean is not None and std is not None:
        values = values * np.asarray(std) + np.asarray(mean)
    else:
        values = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def _flops(backbone: Backbone, batch: Any) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        backbone.extract(batch, backbone.kinds[:1])
    return int(counter.get_total_flops())
