"""Whether an extraction keeps the GPU busy: rows through the store to features on disk, against the network alone.

    PYTHONPATH=. python benchmarks/gpu_extraction.py [--model vit_base_patch16_224] [--rows 16000] [--workers 15]

Rows are `files`, JPEG files of about 300 x 400 pixels, or `arrays`, pixels of the network's size in memory; the product
reads and transforms both in worker processes. Images per second of

    network   batches that lie on the GPU, one after the other: the most that an extraction can reach
    loader    reading and transforming alone, without its first batches, for which every worker makes one
    store     the extraction, without those batches

and how busy the GPU is: the store's rate by the network's, and the mean of what nvidia-smi says over that time.
Expected: 90 % where the loader is faster than the network.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoding import write_photographs

from probe.backbones.timm import TimmBackbone
from probe.core.base import Dataset, Partition
from probe.datasets.shared.partitions import ArrayPartition
from probe.features.extraction.contribute import Reader, read_batches
from probe.features.extraction.plan import Plan
from probe.features.store import FeatureStore


class Timed(TimmBackbone):
    """Notes when batches come."""

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        self.calls.append((time.time(), len(batch)))
        return super().extract(batch, kinds)


def rate(calls: list[tuple[float, int]]) -> float:
    """Rows per second from the first call to the last, whose own rows do not count: they are not done yet."""
    return sum(n for _, n in calls[:-1]) / (calls[-1][0] - calls[0][0])


def network_alone(backbone: Timed, batch_size: int, seconds: float) -> float:
    batch = torch.randint(256, (batch_size, 3, *backbone.image_size), dtype=torch.uint8, device=backbone.device)
    for _ in range(3):
        backbone.extract(batch, ["pooled"])
    torch.cuda.synchronize()
    n, started = 0, time.time()
    while time.time() - started < seconds:
        backbone.extract(batch, ["pooled"])
        backbone.extract(batch, ["pooled"])
        torch.cuda.synchronize()
        n += 2 * batch_size
    return n / (time.time() - started)


def loader_alone(rows: Partition, backbone: Timed, batch_size: int, n_workers: int) -> float:
    plan = Plan(len(rows), batch_size, {"pooled": "float32"}, backbone.name, "rows")
    reader = Reader(rows, backbone.transform, plan)
    calls = [
        (time.time(), len(batch)) for _, batch, _ in read_batches(reader, range(plan.n_blocks), n_workers, pinned=True)
    ]
    return rate(calls[2 * n_workers :])


class Watched:
    """What nvidia-smi says of the GPU's time, ten times a second."""

    def __enter__(self) -> Watched:
        fields = "--query-gpu=timestamp,utilization.gpu"
        query = ["nvidia-smi", fields, "--format=csv,noheader,nounits", "-lms", "100"]
        self.process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.lines = self.process.communicate()[0].splitlines()

    def mean(self, start: float, stop: float) -> float:
        """Per cent between two times."""
        samples = []
        for line in self.lines:
            moment, _, busy = line.partition(", ")
            if start <= datetime.strptime(moment, "%Y/%m/%d %H:%M:%S.%f").timestamp() <= stop:
                samples.append(float(busy))
        return float(np.mean(samples))


def partitions(folder: Path, n: int, size: tuple[int, int]) -> dict[str, Partition]:
    pixels = np.random.default_rng(0).integers(0, 256, (256, *size, 3), dtype=np.uint8)
    arrays = ArrayPartition(pixels[np.arange(n) % 256], np.arange(n) % 10, [str(i) for i in range(n)])
    return {"files": write_photographs(folder / "photographs", n), "arrays": arrays}


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    size = TimmBackbone(arguments.model, pretrained=False).image_size
    rows = partitions(folder, arguments.rows, size)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {arguments.workers} workers\n")
    print("| network | precision | rows | network | loader | store | busy | nvidia-smi |\n" + "|---" * 8 + "|")
    loaders: dict[str, float] = {}
    for precision in arguments.precisions:
        backbone = Timed(arguments.model, pretrained=False, precision=precision).to("cuda")
        backbone.calls = []
        alone = network_alone(backbone, arguments.batch, seconds=3)
        for name in arguments.sources:
            if name not in loaders:
                loaders[name] = loader_alone(rows[name], backbone, arguments.batch, arguments.workers)
            dataset = Dataset(name, ("a", "b"), {"train": rows[name]})
            backbone.calls.clear()
            with Watched() as watched:
                FeatureStore(folder / "cache").get(
                    backbone,
                    dataset,
                    "train",
                    ["pooled"],
                    batch_size=arguments.batch,
                    n_workers=arguments.workers,
                    device="cuda",
                    progress=False,
                )
            calls = backbone.calls[2 * arguments.workers :]
            reached, busy = rate(calls), watched.mean(calls[0][0], calls[-1][0])
            print(
                f"| {arguments.model} | {precision} | {name} | {alone:.0f} | {loaders[name]:.0f} | {reached:.0f} | "
                f"{100 * reached / alone:.0f} % | {busy:.0f} % |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--sources", nargs="+", default=["files", "arrays"], choices=["files", "arrays"])
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


if __name__ == "__main__":
    main()
