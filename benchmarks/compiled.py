"""Compiled extraction against the eager loop: features a second, what compilation takes, and how far values differ.

    OMP_NUM_THREADS=2 python benchmarks/compiled.py                       # three networks at 224 pixels
    OMP_NUM_THREADS=1 python benchmarks/compiled.py --networks resnet18 --pixels 96 --rows 192

Networks have random weights; images are random bytes, in memory. Both loops are timed in turn, block by block, so that
what else the machine does falls on both. `at 30,000` is eager time over compiled time for so many images, with what
the first call of a process with an empty cache takes, extrapolated. Targets there, float32: 1.1 for resnet18, 1.35 for
vit_tiny, 1.5 for tf_efficientnet_lite0; bfloat16, compiled against eager: 1.1.
"""

import argparse
import os
import tempfile
import time

import torch

NETWORKS = ["resnet18", "vit_tiny_patch16_224", "tf_efficientnet_lite0"]
N_BLOCKS = 6


def measure(name: str, pixels: int, n_rows: int, precision: str) -> None:
    from probe.backbones.timm import TimmBackbone

    eager, compiled = (
        TimmBackbone(name, pretrained=False, img_size=pixels, precision=precision, compile=flag)
        for flag in (False, True)
    )
    images = torch.randint(0, 256, (n_rows, 3, pixels, pixels), dtype=torch.uint8)
    with torch.inference_mode():
        expected = eager.extract(images[:32], ["pooled"])["pooled"]
        start = time.perf_counter()
        found = compiled.extract(images[:32], ["pooled"])["pooled"]
        first = time.perf_counter() - start
        seconds = {"wall": [0.0, 0.0], "processor": [0.0, 0.0]}
        for block in images.chunk(N_BLOCKS):
            for i, backbone in enumerate((eager, compiled)):
                wall, processor = time.perf_counter(), time.process_time()
                for batch in block.split(32):
                    backbone.extract(batch, ["pooled"])
                seconds["wall"][i] += time.perf_counter() - wall
                seconds["processor"][i] += time.process_time() - processor
    apart = float((found - expected).abs().max() / expected.abs().max())
    ratios = {clock: a / b for clock, (a, b) in seconds.items()}
    each = [total / n_rows for total in seconds["wall"]]
    at_many = 30_000 * each[0] / (first + 30_000 * each[1])
    print(
        f"{name:24s} {precision:9s} {1 / each[0]:8.1f} {1 / each[1]:8.1f} images/s, ratio {ratios['wall']:.2f} "
        f"(processor {ratios['processor']:.2f}), first call {first:.0f} s, at 30,000 {at_many:.2f}, apart {apart:.0e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--rows", type=int, default=3000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        for name in options.networks:
            for precision in options.precisions:
                measure(name, options.pixels, options.rows, precision)


if __name__ == "__main__":
    main()
