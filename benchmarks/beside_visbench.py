"""The same job by `probe` and by VisBench: a folder of images, a frozen network, a linear probe; cold, then cached.

    pip install --target ELSEWHERE --no-deps visbench
    PYTHONPATH=ELSEWHERE OMP_NUM_THREADS=2 python benchmarks/beside_visbench.py --cifar10 FOLDER_OF_ITS_PARQUET_FILES

6,000 images of CIFAR-10 enlarged to 96 pixels, 5,000 of them to train on, and EfficientNet-Lite0, of random weights or
of those that `examples/real_weights.py` writes (`--weights`). VisBench gets the network as its `CustomBackbone`, with
the transform that `probe` uses, and fits its probe with its defaults, one learning rate; `probe` fits `linear`, ten
penalties, a choice on held-out rows and a refit, and writes a run folder. `cold` begins with an empty cache, `cached`
is the same call once more. Seconds on the wall and of the processor in one process; imports and the making of the
network come before the clock starts. Target: 8 times faster, cold and cached.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_transform, resolve_model_data_config

import probe
from probe.backbones.timm import TimmBackbone
from probe.datasets.parquet import load

NETWORK, SIDE = "tf_efficientnet_lite0", 96


def write_images(cifar10: str, folder: Path, sizes: dict[str, int]) -> None:
    """`<partition>/<class>/<row>.png`."""
    partitions = load(cifar10).partitions
    for name, n in sizes.items():
        for row in range(n):
            place = folder / name / str(partitions[name].labels[row])
            place.mkdir(parents=True, exist_ok=True)
            image = partitions[name][row].resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            image.save(place / f"{row:05d}.png")


def timed(name: str, job: Callable[[], float]) -> tuple[float, float]:
    """Wall and processor seconds of a job that returns a top-1."""
    wall, processor = time.perf_counter(), time.process_time()
    top1 = job()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"{name:24s} {wall:7.1f} s wall {processor:7.1f} s processor, top-1 {100 * top1:.1f} %", flush=True)
    return wall, processor


def visbench_job(weights: str | None, folder: Path, cache: Path) -> Callable[[], float]:
    """Its custom backbone takes a map, whose mean is what timm pools."""
    import visbench
    from visbench.backbones.custom import CustomBackbone
    from visbench.cache import FeatureCache
    from visbench.data import ImageFolderDataset

    network = timm.create_model(NETWORK, num_classes=0, global_pool="")
    if weights:
        network.load_state_dict(load_file(weights), strict=False)
    config = resolve_model_data_config(network, {"input_size": (3, SIDE, SIDE), "crop_pct": 1.0})
    backbone = CustomBackbone(network, create_transform(**config), name=NETWORK, image_size=SIDE, device="cpu")

    def job() -> float:
        train, test = (ImageFolderDataset(folder / part, split=part) for part in ("train", "test"))
        task = {"pooling": "mean", "device": "cpu"}
        result = visbench.run(backbone, visbench.get_probe("classification", **task), test, train, FeatureCache(cache))
        return float(result.metrics["top1"])

    return job


def probe_job(weights: str | None, compiled: bool, folder: Path, scratch: Path) -> Callable[[], float]:
    backbone = TimmBackbone(NETWORK, False, weights, img_size=SIDE, crop_pct=1.0, compile=compiled)

    def job() -> float:
        places = {"runs": scratch / "runs", "cache": scratch / "cache"}
        result = probe.run(backbone, folder, "linear", force=True, quiet=True, **places)
        return float(result.metrics["top1"].value)

    return job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", required=True, help="folder of its parquet files")
    parser.add_argument("--weights", help="safetensors of the network; random weights without")
    parser.add_argument("--compile", action="store_true", help="backbone.compile=true")
    parser.add_argument("--train", type=int, default=5000)
    parser.add_argument("--test", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        images = scratch / "images"
        write_images(options.cifar10, images, {"train": options.train, "test": options.test})
        jobs = {
            "probe": probe_job(options.weights, options.compile, images, scratch),
            "visbench": visbench_job(options.weights, images, scratch / "visbench"),
        }
        for state in ("cold", "cached"):
            ours, theirs = (timed(f"{name}, {state}", job) for name, job in jobs.items())
            print(f"{state}: {theirs[0] / ours[0]:.1f} times (wall), {theirs[1] / ours[1]:.1f} (processor)", flush=True)


if __name__ == "__main__":
    main()
