"""Whether decoding is the bottleneck: images per second of the loader alone, next to those of backbones.

    PYTHONPATH=. python benchmarks/decoding.py [--rows 3000] [--workers 2] [--models resnet18 vit_small_patch16_224]

Writes JPEG files of about 300 x 400 pixels with the spectrum of photographs, each of another size and quality, and
reads them through what an extraction reads them with: `ImageFiles`, the backbone's transform, worker processes. The
backbone's own speed is that of batches in memory on all threads. Both share the machine's cores in an extraction, so
it runs at most at 1 / (1 / loader + 1 / backbone) where the workers take the cores from the backbone.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from probe.backbones.timm import TimmBackbone
from probe.backbones.tiny import TinyBackbone
from probe.datasets.shared.partitions import ImageFiles
from probe.features.extraction.contribute import Reader, read_batches
from probe.features.extraction.plan import Plan

BATCH = 64


def photograph(random: np.random.Generator) -> Image.Image:
    """Random pixels whose amplitudes fall with frequency as those of photographs do, by 1 / f."""
    height, width = int(random.integers(270, 331)), int(random.integers(360, 441))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    noise = random.normal(size=(3, height, width))
    channels = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(height, width))
    # Channels of photographs are mostly brightness.
    channels = channels.mean(axis=0) + 0.3 * channels
    pixels = 128 + 50 * channels / channels.std()
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def write_photographs(folder: Path, n: int) -> ImageFiles:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    drawn = []  # more files are copies, which cost as much to decode
    for _ in range(min(n, 200)):
        file = io.BytesIO()
        photograph(random).save(file, "JPEG", quality=int(random.integers(80, 96)))
        drawn.append(file.getvalue())
    for i in range(n):
        (folder / f"{i:05d}.jpg").write_bytes(drawn[i % len(drawn)])
    names = sorted(file.name for file in folder.iterdir())
    mean = sum((folder / name).stat().st_size for name in names) / n
    print(f"{n} photographs, {mean / 1024:.0f} KiB each", flush=True)
    return ImageFiles(folder, names, np.zeros(n, np.int64))


def decoding(files: ImageFiles, n: int) -> float:
    """Images per second, decoded in this process and nothing else."""
    start = time.perf_counter()
    for row in range(n):
        files[row]
    return n / (time.perf_counter() - start)


def loading(files: ImageFiles, backbone: TinyBackbone | TimmBackbone, n_workers: int) -> float:
    """Images per second of the loader alone, the start of its workers included."""
    plan = Plan(len(files), BATCH, {"pooled": "float32"}, backbone.name, "photographs")
    start = time.perf_counter()
    batches = read_batches(Reader(files, backbone.transform, plan), range(plan.n_blocks), n_workers, pinned=False)
    n = sum(len(batch) for _, batch, _ in batches)
    return n / (time.perf_counter() - start)


def forward(backbone: TinyBackbone | TimmBackbone, seconds: float = 10.0) -> float:
    """Images per second of the backbone alone."""
    batch = torch.randint(256, (BATCH, 3, *backbone.image_size), dtype=torch.uint8)  # as the loader gives it
    backbone.extract(batch[:2], ["pooled"])
    n, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        backbone.extract(batch, ["pooled"])
        n += BATCH
    return n / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--models", nargs="*", default=["resnet18", "vit_small_patch16_224", "resnet50"])
    parser.add_argument("--seconds", type=float, default=10.0, help="per backbone")
    arguments = parser.parse_args()
    backbones = [TinyBackbone(), *(TimmBackbone(name, pretrained=False) for name in arguments.models)]
    with tempfile.TemporaryDirectory() as folder:
        files = write_photographs(Path(folder), arguments.rows)
        print(f"decoding alone, one process: {decoding(files, min(arguments.rows, 500)):.0f} images/s", flush=True)
        print(f"\n| backbone | pixels | loader, {arguments.workers} workers | backbone | loader / backbone |")
        print("|---|---|---|---|---|")
        for backbone in backbones:
            load, run = loading(files, backbone, arguments.workers), forward(backbone, arguments.seconds)
            size = f"{backbone.image_size[0]} x {backbone.image_size[1]}"
            print(f"| {backbone.name} | {size} | {load:.0f} | {run:.0f} | {load / run:.1f} |", flush=True)


if __name__ == "__main__":
    main()
