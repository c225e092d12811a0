"""Extraction, as it is and compiled, against a bare loop: features a second, what compilation takes, values apart.

    OMP_NUM_THREADS=2 python benchmarks/compiled.py                       # three networks at 224 pixels
    OMP_NUM_THREADS=1 python benchmarks/compiled.py --networks resnet18 --pixels 96 --rows 192

Networks have random weights; images are random bytes, in memory. The bare loop runs batches of 32 through the network
in the same layout and precision. All three are timed in turn, block by block, so that what else the machine does falls
on each. `at 30,000` is the bare loop's time over the compiled one's for so many images, with what the first call of a
process with an empty cache takes, extrapolated. Targets there, float32: 1.1 for resnet18, 1.35 for vit_tiny, 1.5 for
tf_efficientnet_lite0; bfloat16, compiled against eager: 1.1.
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
    loops = {
        "bare": lambda rows: [eager._run(batch, []) for batch in rows.split(32)],
        "eager": lambda rows: eager.extract(rows, ["pooled"]),
        "compiled": lambda rows: compiled.extract(rows, ["pooled"]),
    }
    with torch.inference_mode():
        expected = eager.extract(images[:32], ["pooled"])["pooled"]
        start = time.perf_counter()
        found = compiled.extract(images[:32], ["pooled"])["pooled"]
        first = time.perf_counter() - start
        wall, processor = dict.fromkeys(loops, 0.0), dict.fromkeys(loops, 0.0)
        for block in images.chunk(N_BLOCKS):
            for loop, run in loops.items():
                started, used = time.perf_counter(), time.process_time()
                run(block)
                wall[loop] += time.perf_counter() - started
                processor[loop] += time.process_time() - used
    apart = float((found - expected).abs().max() / expected.abs().max())
    rates = "  ".join(f"{loop} {n_rows / seconds:.1f}" for loop, seconds in wall.items())
    times = "  ".join(
        f"{loop} {wall['bare'] / wall[loop]:.2f} ({processor['bare'] / processor[loop]:.2f} by the processor)"
        for loop in ("eager", "compiled")
    )
    times += f"; compiled against eager {wall['eager'] / wall['compiled']:.2f}"
    times += f" ({processor['eager'] / processor['compiled']:.2f} by the processor)"
    each = {loop: seconds / n_rows for loop, seconds in wall.items()}
    at_many = 30_000 * each["bare"] / (first + 30_000 * each["compiled"])
    print(
        f"{name:24s} {precision:9s} images/s: {rates}; times the bare loop: {times}; first call {first:.0f} s, "
        f"compiled at 30,000 {at_many:.2f}, apart {apart:.0e}",
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
