"""What the heads of `probe.Watch` cost beside the pass over the rows that they read.

    python benchmarks/watch.py [--extracted 128] [--classes 10]

Extraction: images of 224 pixels through a ViT-S/16 of timm (384 numbers a row, random weights), in memory as Watch does
it; `--extracted` of them are timed, and counted for 10,000. Fit: 8,000 rows of 384 numbers that train and validate and
2,000 that test, choice and scores included, as one epoch of Watch does it. Seconds of the wall and of the processor,
which a busy machine does not stretch. Target: no head takes more than 5 % of the extraction.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from linear_probe import power_law
from PIL import Image

from probe.backbones.identity import IdentityBackbone
from probe.backbones.module import ModuleBackbone
from probe.backbones.shared.borrowed import Borrowed
from probe.command.config import compose, instantiate
from probe.datasets.shared.in_memory import dataset_of
from probe.experiment.request import Run
from probe.experiment.watching import prepare, watch_heads
from probe.features.one_pass import OnePass
from probe.features.store import FeatureStore
from probe.protocols.full import Full

N_ROWS, WIDTH = 10_000, 384
QUIET = {"progress": False}
HEADS = ("ncm", "lda", "ridge", "linear")


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Of the wall and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def images(n: int) -> Any:
    """JPEG-sized noise, decoded already: what decoding costs comes on top."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    large = np.stack([np.asarray(Image.fromarray(p).resize((224, 224), Image.Resampling.BICUBIC)) for p in pixels])
    return dataset_of({"train": (large, np.arange(n) % 2)})


def features(n_classes: int) -> Any:
    """Rows like features, a tenth of the labels drawn at random, as `linear_probe.py` draws them."""
    X, y = power_law(N_ROWS, WIDTH, n_classes, noise=0.1)
    return dataset_of({"train": (X[:8000], y[:8000]), "test": (X[8000:], y[8000:])})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--extracted", type=int, default=128)
    parser.add_argument("--classes", type=int, default=10)
    given = parser.parse_args()

    network = timm.create_model("vit_small_patch16_224", num_classes=0)
    backbone, data = ModuleBackbone(Borrowed(network)), images(given.extracted)
    rows = {"train": np.arange(given.extracted)}
    one = OnePass(rows, ["pooled"], guarded=True)
    times = seconds(lambda: one.get(backbone, data, "train", ["pooled"], batch_size=32, device="cpu", **QUIET))
    wall, processor = (N_ROWS / given.extracted * value for value in times)
    print(f"{torch.get_num_threads()} threads, {given.extracted} rows extracted, {given.classes} classes\n")
    print("| | seconds | processor's | of the extraction's |\n|---|---|---|---|")
    print(f"| extraction, {N_ROWS:,} rows | {wall:.0f} | {processor:.0f} | |")
    data = features(given.classes)
    for name in HEADS:
        head = instantiate(compose([f"head={name}"])["head"])
        request = Run(IdentityBackbone(), data, Full(), head, FeatureStore(), Path(), device="cpu", features=QUIET)
        heads = {name: prepare(request)}
        wall, used = seconds(lambda heads=heads: watch_heads(heads, IdentityBackbone(), ["top1"], "cpu", guarded=True))
        print(f"| {name} | {wall:.2f} | {used:.2f} | {100 * used / processor:.2f} % |", flush=True)


if __name__ == "__main__":
    main()
