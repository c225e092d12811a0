"""What a run would cost, before anything is extracted: the facts behind `probe describe`."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.base import Backbone, Dataset
from probe.partitions import count_duplicates
from probe.targets import rows_per_class

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

N_BATCHES = 5
N_PICTURES = 16


def describe(backbone: Backbone, dataset: Dataset, batch_size: int = 16) -> dict[str, Any]:
    """Facts about both, with the time measured on five batches of training rows in this process.

    Bytes assume `pooled` in float32 and everything else in float16; FLOPs count a multiply-add as two.
    """
    import torch

    train = dataset.partitions["train"]
    rows = np.linspace(0, len(train) - 1, min(len(train), N_BATCHES * batch_size)).astype(int)
    start = time.perf_counter()
    tensors = torch.stack([backbone.transform(train[int(row)]) for row in rows])
    transform_seconds = (time.perf_counter() - start) / len(rows)
    batches = tensors.split(batch_size)
    features = backbone.extract(batches[0], backbone.kinds)
    shapes = {kind: tuple(value.shape[1:]) for kind, value in features.items()}
    start = time.perf_counter()
    for batch in batches:
        given = backbone.extract(batch, backbone.kinds)
    # Moving a value waits for the device.
    float(next(iter(given.values())).flatten()[0])
    forward_seconds = (time.perf_counter() - start) / len(rows)
    n_rows = {part: len(p) for part, p in dataset.partitions.items()}
    total = sum(n_rows.values())
    counts = rows_per_class(train.labels, len(dataset.class_names))
    return {
        "backbone": backbone.name,
        "n_parameters": backbone.n_parameters,
        "flops_per_row": _flops(backbone, batches[0][:1]),
        "shapes": shapes,
        "bytes_per_kind": {k: total * math.prod(s) * (4 if k == "pooled" else 2) for k, s in shapes.items()},
        "dataset": dataset.name,
        "rows": n_rows,
        "n_classes": len(dataset.class_names),
        "train_rows_per_class": {
            "least": int(counts.min()),
            "median": float(np.median(counts)),
            "most": int(counts.max()),
        },
        "rows_of_train_elsewhere": count_duplicates(dataset),
        "transform_rows_per_second": 1 / transform_seconds,
        "forward_rows_per_second": 1 / forward_seconds,
        "minutes": total * (transform_seconds + forward_seconds) / 60,
    }


def render(facts: dict[str, Any]) -> str:
    """The facts as lines for a terminal."""
    kinds = [
        f"{k} {'x'.join(map(str, s))} ({facts['bytes_per_kind'][k] / 2**20:.1f} MiB)"
        for k, s in facts["shapes"].items()
    ]
    per_class, speed = (
        facts["train_rows_per_class"],
        "{:,.0f} rows/s read and transformed, {:,.0f} through the backbone",
    )
    rows = ", ".join(f"{n:,} {part}" for part, n in facts["rows"].items())
    copies = [f"{n:,} rows of {part} are in train too" for part, n in facts["rows_of_train_elsewhere"].items()]
    flops = f"{facts['flops_per_row'] / 1e9:.3g} GFLOP per row"
    lines = {
        "backbone": f"{facts['backbone']}, {facts['n_parameters']:,} parameters, {flops}",
        "features": "; ".join(kinds),
        "dataset": f"{facts['dataset']}, {facts['n_classes']} classes, {rows}",
        "train / class": f"{per_class['least']} to {per_class['most']}, median {per_class['median']:g}",
        "leakage": ", ".join(copies) or "not known for this kind of dataset",
        "speed": speed.format(facts["transform_rows_per_second"], facts["forward_rows_per_second"]),
        "extraction": f"about {facts['minutes']:.1f} minutes in one process without workers",
    }
    return "\n".join(f"{name:14} {text}" for name, text in lines.items())


def contact_sheet(backbone: Backbone, dataset: Dataset) -> Image.Image | None:
    """Training images as the backbone sees them, side by side; None for rows that are no images."""
    from PIL import Image

    train = dataset.partitions["train"]
    rows = np.linspace(0, len(train) - 1, min(len(train), N_PICTURES)).astype(int)
    tensors = [backbone.transform(train[int(row)]) for row in rows]
    if tensors[0].ndim == 4:  # several views of each image
        tensors = [view for tensor in tensors for view in tensor]
    if tensors[0].ndim != 3 or len(tensors[0]) != 3:
        return None
    steps = backbone.identity().get("preprocessing", {})
    pictures = [_pixels(tensor, steps.get("mean"), steps.get("std")) for tensor in tensors]
    height, width = pictures[0].shape[:2]
    n_columns = math.ceil(math.sqrt(len(pictures)))
    n_lines = math.ceil(len(pictures) / n_columns)
    sheet = np.full((n_lines * (height + 2), n_columns * (width + 2), 3), 255, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        top, left = (i // n_columns) * (height + 2), (i % n_columns) * (width + 2)
        sheet[top : top + height, left : left + width] = picture
    return Image.fromarray(sheet)


def _pixels(tensor: Tensor, mean: Any, std: Any) -> np.ndarray:
    """(H, W, 3) uint8 pixels of a transformed image; without known statistics it is stretched to the whole range."""
    values = tensor.permute(1, 2, 0).float().numpy()
    if mean is not None and std is not None:
        values = values * np.asarray(std) + np.asarray(mean)
    else:
        values = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def _flops(backbone: Backbone, batch: Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        backbone.extract(batch, backbone.kinds[:1])
    return int(counter.get_total_flops())
