"""How extraction scales over processes: measured for 1, 2 and 4 of them, and computed for 1 to 256 GPUs.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/scaling.py [--rows 1024] [--repeats 3] [--parts …]

cores      processes that decode and compute on the processor, one thread each: speed-up is bounded by the cores
devices    processes that wait for a device, as with a GPU each: what is lost is lost to sharing the work
costs      what one row, one claim and one merge cost here, for the model; and one row on the GPU, where there is one
model      ImageNet-21k x ViT-L on 1 to 256 GPUs: the rate of each resource, and which is the least
Efficiency is the time of one process over (processes x their time), each after all have started.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoding import write_photographs
from extraction import Rows
from PIL import Image

from probe.backbones.timm import TimmBackbone
from probe.core.base import Dataset
from probe.features.blocks import block_hash
from probe.features.extraction.plan import Plan
from probe.features.extraction.work import Work
from probe.features.extraction.writer import Writer
from probe.features.store import FeatureStore
from probe.heads.shared.moments import ClassMoments

BATCH = 16
DEVICE_SECONDS = 0.05


class Device:
    """Takes a fixed time for a batch, during which the processor is free."""

    name, kinds, n_prefix_tokens, n_parameters = "device", ("pooled",), 0, 0

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}

    def transform(self, row: Any) -> torch.Tensor:
        return row

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        time.sleep(DEVICE_SECONDS)
        return {"pooled": batch}

    def to(self, device: str) -> Device:
        return self


def share(backbone: Any, dataset: Dataset, root: Path, barrier: Any, answers: Any) -> None:
    """One of several processes; sends the seconds from the common start to the end of the extraction."""
    torch.set_num_threads(1)
    barrier.wait()
    started = time.perf_counter()
    FeatureStore(root).get(backbone, dataset, "train", ["pooled"], batch_size=BATCH, device="cpu", progress=False)
    answers.put(time.perf_counter() - started)


def seconds(n_processes: int, backbone: Any, dataset: Dataset, root: Path) -> float:
    """Until the last of the processes has all features."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(n_processes), context.Queue()
    arguments = (backbone, dataset, root, barrier, answers)
    processes = [context.Process(target=share, args=arguments) for _ in range(n_processes)]
    for process in processes:
        process.start()
    took = max(answers.get() for _ in processes)
    for process in processes:
        process.join()
    return took


def efficiency(name: str, backbone: Any, dataset: Dataset, folder: Path, repeats: int) -> None:
    counts = (1, 2, 4)
    times: dict[int, list[float]] = {n: [] for n in counts}
    for i in range(repeats):
        for n in counts:  # in turns: load from elsewhere hits all
            times[n].append(seconds(n, backbone, dataset, folder / f"{name}-{i}-{n}"))
    rows = len(dataset.partitions["train"])
    for n in counts:
        gain = statistics.median(one / many for one, many in zip(times[1], times[n], strict=True))
        rate = rows / statistics.median(times[n])
        print(f"{name:8} {n} processes  {rate:8.0f} rows/s  speed-up {gain:.2f}  efficiency {gain / n:.2f}", flush=True)


def cores(n_rows: int, repeats: int, folder: Path) -> None:
    dataset = Dataset("files", ("a", "b"), {"train": write_photographs(folder / "photographs", n_rows)})
    efficiency("cores", TimmBackbone("resnet18", pretrained=False, img_size=96), dataset, folder, repeats)


def devices(n_rows: int, repeats: int, folder: Path) -> None:
    dataset = Dataset("memory", ("a", "b"), {"train": Rows(torch.randn(n_rows, 1024), "memory")})
    efficiency("devices", Device(), dataset, folder, repeats)


@dataclass(frozen=True)
class Costs:
    """What was measured here, on one core, and on one GPU; where there is none, what an H200 does.

    Attributes:
        decode: Images per second, a photograph of 500 x 375 pixels from a JPEG file to a tensor of 224 x 224.
        hash_bytes: Bytes per second of XXH3-64.
        claim: Seconds for one claim among `CLAIMED` others.
        merge: Seconds to merge full second moments of 1,024 features and 21,841 classes.
        compute: Images per second of ViT-L/16 at 224 px in bfloat16 on one GPU.
        copy: Bytes per second from pinned memory to it.
    """

    decode: float
    hash_bytes: float
    claim: float
    merge: float
    compute: float = 3_029.0
    copy: float = 53e9


CLAIMED = 512


def timed(function: Callable[[], Any], at_least: float = 0.5) -> float:
    """Seconds for one call."""
    function()
    n, started = 0, time.perf_counter()
    while time.perf_counter() - started < at_least:
        function()
        n += 1
    return (time.perf_counter() - started) / n


def costs(folder: Path) -> Costs:
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 63, 3), dtype=np.uint8))
    path = folder / "photograph.jpg"
    coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=95)
    backbone = TimmBackbone("resnet18", pretrained=False)
    block = np.random.default_rng(0).normal(size=(256, 1024)).astype(np.float32)
    parts = [ClassMoments(21_841, 1024, second="full") for _ in range(2)]
    for i, part in enumerate(parts):  # about other points, as those of other rows are
        part.update(block + i, np.arange(256))
    measured = Costs(
        decode=1 / timed(lambda: backbone.transform(Image.open(path))),
        hash_bytes=block.nbytes / timed(lambda: block_hash(block)),
        claim=claim_seconds(folder / "entry"),
        merge=timed(lambda: parts[0].merge(parts[1])),
        **(gpu_costs() if torch.cuda.is_available() else {}),
    )
    print(f"decode   {measured.decode:.0f} images/s on a core, {path.stat().st_size / 1000:.0f} kB each")
    print(f"hash     {measured.hash_bytes / 1e9:.1f} GB/s")
    print(f"claim    {1000 * measured.claim:.2f} ms on this disk, {CLAIMED} ranges claimed by others")
    print(f"merge    {measured.merge:.2f} s for 21,841 classes and 1,024 features, full second moments")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "an H200, not measured here"
    print(f"compute  {measured.compute:.0f} images/s by ViT-L/16 in bfloat16 ({where})")
    print(f"copy     {measured.copy / 1e9:.0f} GB/s from pinned memory to it", flush=True)
    return measured


def gpu_costs() -> dict[str, float]:
    backbone = TimmBackbone("vit_large_patch16_224", pretrained=False, precision="bfloat16").to("cuda")
    batch = torch.randint(0, 256, (BATCH_ROWS, 3, 224, 224), dtype=torch.uint8)
    on_host, on_gpu = batch.pin_memory(), batch.cuda()

    def done(work: Callable[[], Any]) -> None:
        work()
        torch.cuda.synchronize()

    return {
        "compute": BATCH_ROWS / timed(lambda: done(lambda: backbone.extract(on_gpu, ["pooled"])), 2.0),
        "copy": batch.nbytes / timed(lambda: done(lambda: on_gpu.copy_(on_host, non_blocking=True))),
    }


def claim_seconds(entry: Path) -> float:
    entry.mkdir()
    plan = Plan(1024, 1, {"pooled": "float32"}, "nobody", "nothing")
    work = Work.open_or_create(entry, plan)
    with Writer(work) as others:
        for _ in range(CLAIMED):
            others.claim()
        with Writer(work) as writer:
            started = time.perf_counter()
            for _ in range(100):
                writer.claim()
            return (time.perf_counter() - started) / 100


# What follows is assumed, not measured.
N_ROWS, BYTES_PER_IMAGE = 14_197_122, 1.31e12 / 14_197_122  # the full ImageNet-21k, fall 2011
FEATURE_BYTES = {"pooled": 1024 * 4, "tokens": 197 * 1024 * 2}
INPUT_BYTES = 3 * 224 * 224
GPUS_PER_NODE, CORES_PER_GPU = 8, 12
NODE_BYTES = 12.5e9  # one network port of 100 Gbit/s
STORAGE_READ, STORAGE_WRITE = 20e9, 10e9  # of the file system, all nodes together
STORAGE_OPENS = 50_000.0  # files opened per second, all nodes together
STORAGE_LATENCY = 1e-3  # of one operation on a folder, in place of the local disk's
OPERATIONS_PER_CLAIM = 6
DIGEST_THREADS = 8  # of `probe.core.files`
BATCH_ROWS = 256


def limits(n_gpus: int, kinds: tuple[str, ...], measured: Costs, in_shards: bool) -> dict[str, float]:
    """Rows per second that each resource carries with so many GPUs."""
    n_nodes = -(-n_gpus // GPUS_PER_NODE)
    written = sum(FEATURE_BYTES[kind] for kind in kinds)
    return {
        "compute": n_gpus * measured.compute,
        "decode": n_gpus * CORES_PER_GPU * measured.decode,
        "copy": n_gpus * measured.copy / (INPUT_BYTES + written),
        "network": n_nodes * NODE_BYTES / (BYTES_PER_IMAGE + written),
        "read": STORAGE_READ / BYTES_PER_IMAGE,
        "open": np.inf if in_shards else STORAGE_OPENS,
        "write": STORAGE_WRITE / written,
    }


def hours(n_gpus: int, kinds: tuple[str, ...], measured: Costs, in_shards: bool) -> tuple[float, str, float]:
    """Time of the extraction, what limits it, and the efficiency against one GPU that only computes."""
    rates = limits(n_gpus, kinds, measured, in_shards)
    least = min(rates, key=lambda name: rates[name])
    plan = Plan(N_ROWS, BATCH_ROWS, {}, "", "")
    rounds = -(-plan.n_ranges // n_gpus)  # whole ranges: in the last round some have nothing to do
    range_rows = plan.blocks_per_range * BATCH_ROWS
    # What all share serves those that are left in the last round the faster; what each has of its own stands idle.
    idle_rows = rounds * n_gpus * range_rows - N_ROWS if least in ("compute", "decode", "copy") else 0
    tail = idle_rows / (n_gpus * measured.compute)
    claims = rounds * max(measured.claim, OPERATIONS_PER_CLAIM * STORAGE_LATENCY)
    took = N_ROWS / rates[least] + tail + claims
    return took / 3600, least, N_ROWS / measured.compute / n_gpus / took


def model(measured: Costs) -> None:
    for kinds in (("pooled",), ("pooled", "tokens")):
        total = N_ROWS * sum(FEATURE_BYTES[kind] for kind in kinds) / 1e12
        for in_shards in (False, True):
            source = "shards" if in_shards else "one file per image"
            print(f"\nImageNet-21k x ViT-L, {' and '.join(kinds)} ({total:.2f} TB), {source}\n")
            print("| GPUs | hours | limited by | efficiency | next limit |\n|---|---|---|---|---|")
            for n in (1, 2, 4, 8, 16, 32, 64, 128, 256):
                took, least, share_of_ideal = hours(n, kinds, measured, in_shards)
                rates = limits(n, kinds, measured, in_shards)
                second = sorted(rates, key=lambda name: rates[name])[1]
                spare = rates[second] / rates[least]
                print(f"| {n} | {took:.2f} | {least} | {share_of_ideal:.2f} | {second}, {spare:.1f} times as fast |")
    depth = np.log2(256)
    wait = depth * (measured.merge + 8 * (21_841 * 1024 * 2 + 1024**2) / NODE_BYTES)
    digests = {
        "one file per image": max(N_ROWS * STORAGE_LATENCY / DIGEST_THREADS, N_ROWS * BYTES_PER_IMAGE / NODE_BYTES),
        "shards": N_ROWS * BYTES_PER_IMAGE / NODE_BYTES,
    }
    print()
    for source, once in digests.items():
        print(f"Before the first extraction, the digest of all rows by one process, {source}: {once / 3600:.2f} h")
    print(f"Merging the class statistics of 256 ranks in a tree of depth {depth:.0f}: {wait:.1f} s")


PARTS = ("cores", "devices", "costs", "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {arguments.rows} rows, blocks of {BATCH}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if "cores" in arguments.parts:
            cores(arguments.rows, arguments.repeats, Path(folder))
        if "devices" in arguments.parts:
            devices(4 * arguments.rows, arguments.repeats, Path(folder))
        if {"costs", "model"} & set(arguments.parts):
            measured = costs(Path(folder))
        if "model" in arguments.parts:
            model(measured)


if __name__ == "__main__":
    main()
