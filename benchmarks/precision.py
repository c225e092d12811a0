"""bfloat16 autocast against float32: images per second, and what it does to a linear probe.

    PYTHONPATH=. python benchmarks/precision.py [--repeats 5] [--size 224]

Throughput with random weights of the real architectures (target >= 1.4 on a processor with bfloat16 instructions),
both precisions in turn, median of the ratios. Accuracy with the embedded backbone, `linear` on digits, three seeds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from probe.backbones.timm import TimmBackbone
from probe.backbones.tiny import TinyBackbone
from probe.datasets import sklearn
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.linear import LinearProbe
from probe.protocols.full import Full
from probe.results.reader import read_result

PRECISIONS = ("bfloat16", "float32")


def seconds(backbone: TimmBackbone, batch: torch.Tensor) -> float:
    start = time.perf_counter()
    backbone.extract(batch, ["pooled"])
    return time.perf_counter() - start


def throughput(name: str, size: int, repeats: int, rows: int = 32) -> None:
    backbones = [TimmBackbone(name, pretrained=False, precision=precision) for precision in PRECISIONS]
    batch = torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(0))
    for backbone in backbones:
        seconds(backbone, batch)
    times = [[seconds(backbone, batch) for backbone in backbones] for _ in range(repeats)]
    ratio = statistics.median(slow / fast for fast, slow in times)
    speeds = [rows / statistics.median(column) for column in zip(*times, strict=True)]
    print(f"{name:24} bfloat16 {speeds[0]:7.1f} images/s, float32 {speeds[1]:7.1f}, ratio {ratio:.2f}")


def accuracy(precision: str, folder: Path) -> float:
    data, backbone = sklearn.load("digits"), TinyBackbone(precision=precision)
    values = []
    for seed in range(3):
        store = FeatureStore(folder / "cache")
        result = read_result(run(Run(backbone, data, Full(), LinearProbe(), store, folder / "runs", seed=seed)))
        assert result is not None
        values.append(result["metrics"]["top1"]["value"])
    return 100 * statistics.mean(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    for name in ("resnet18", "vit_tiny_patch16_224"):
        throughput(name, options.size, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        found = {precision: accuracy(precision, Path(folder)) for precision in PRECISIONS}
    change = found["bfloat16"] - found["float32"]
    print(f"linear probe of tiny on digits: {found['bfloat16']:.2f} % against {found['float32']:.2f} %, {change:+.2f}")


if __name__ == "__main__":
    main()
