"""What the feature store costs: its throughput against loops without it, all measured in one process run.

    PYTHONPATH=. python benchmarks/extraction.py [--model resnet18] [--size 96] [--rows 1024] [--repeats 3]

Prints one line per figure:
    store / bare loop     extraction of rows decoded in memory, against `for batch: model(batch)`     >= 0.97
    files / DataLoader    JPEG files to features on disk, against DataLoader + timm model + torch.save >= 1.0
    open                  milliseconds to get features that are there                                  <= 10
    verify                GB/s of checksums, and the share of a linear probe's fit                     <= 5 %
    weights               seconds to hash 300M parameters                                              <= 1
Store and peer take turns, and the median of the ratios counts: load from elsewhere hits both.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from decoding import write_photographs
from PIL import Image

from probe.backbones.timm import TimmBackbone
from probe.core.base import Dataset
from probe.core.hashing import hash_tensors
from probe.features import entry
from probe.features.store import FeatureStore

BATCH = 64


class Network:
    """A timm network with random weights, run as the bare loop runs it: what is left is the store."""

    kinds = ("pooled",)
    n_prefix_tokens = 0

    def __init__(self, name: str, size: int, device: str):
        self.name, self.size, self.device = name, size, device
        options = {"img_size": size} if name.startswith("vit") else {}
        self.model = timm.create_model(name, num_classes=0, **options).eval().to(device)
        self.n_parameters = sum(p.numel() for p in self.model.parameters())

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "weights": hash_tensors(self.model.state_dict())}

    def transform(self, row: Any) -> torch.Tensor:
        return row

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        return {"pooled": self.model(batch)}

    def to(self, device: str) -> Network:
        return self


class Rows:
    """Rows in memory."""

    def __init__(self, rows: Any, fingerprint: str):
        self.rows, self.fingerprint = rows, fingerprint
        self.labels = np.arange(len(rows)) % 10
        self.ids = [str(i) for i in range(len(rows))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.rows[row]


def seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def take_turns(peer: Callable[[int], Any], ours: Callable[[int], Any], repeats: int) -> tuple[float, float, float]:
    """Median ratios of throughput and of processor time, the peer's over ours, and our best seconds."""
    times = []
    for i in range(repeats + 1):  # the first round warms up
        pair = []
        for function in (peer, ours):
            processor = time.process_time()
            wall = seconds(lambda function=function, i=i: function(i))
            pair.append((wall, time.process_time() - processor))
        times.append(pair)
    ratios = [statistics.median(peer[k] / ours[k] for peer, ours in times[1:]) for k in (0, 1)]
    return ratios[0], ratios[1], min(ours[0] for _, ours in times[1:])


def in_memory(backbone: Network, n: int, repeats: int, folder: Path) -> None:
    batches = torch.randn(n, 3, backbone.size, backbone.size)
    dataset = Dataset("memory", ("a", "b"), {"train": Rows(batches, "memory")})

    def bare(i: int) -> None:
        with torch.inference_mode():
            for start in range(0, n, BATCH):
                backbone.model(batches[start : start + BATCH].to(backbone.device)).cpu()

    ratio, processor, best = take_turns(bare, lambda i: get(backbone, dataset, folder / f"memory-{i}", 0), repeats)
    report(
        f"store / bare loop    {ratio:.3f}  ({n / best:.0f} images/s, {backbone.name} at {backbone.size} px; "
        f"{processor:.3f} by processor time)"
    )


def from_files(name: str, size: int, n: int, repeats: int, folder: Path, n_workers: int) -> None:
    """The product's own backbone and reader against what a user of timm writes, and that with `channels_last`."""
    files = write_photographs(folder / "photographs", n)
    dataset = Dataset("files", ("a", "b"), {"train": files})
    backbone = TimmBackbone(name, pretrained=False, img_size=size)
    model = timm.create_model(name, num_classes=0).eval()
    config = timm.data.resolve_data_config({"input_size": (3, size, size)}, model=model)
    transform = timm.data.create_transform(**config, is_training=False)

    class Plain(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return n

        def __getitem__(self, row: int) -> torch.Tensor:
            return transform(Image.open(folder / "photographs" / files.ids[row]).convert("RGB"))

    def plain(layout: torch.memory_format) -> None:
        model.to(memory_format=layout)
        loader = torch.utils.data.DataLoader(Plain(), batch_size=BATCH, num_workers=n_workers)
        with torch.inference_mode():
            features = [model(batch.to(memory_format=layout)) for batch in loader]
            torch.save(torch.cat(features), folder / "plain.pt")

    for words, layout in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
        ours = functools.partial(get, backbone, dataset, n_workers=n_workers)
        ratio, processor, best = take_turns(
            lambda i, layout=layout: plain(layout),
            lambda i, ours=ours, words=words: ours(root=folder / f"files{words}-{i}"),
            repeats,
        )
        report(
            f"files / DataLoader{words}  {ratio:.3f}  ({n / best:.0f} images/s, {backbone.name} at {size} px, "
            f"{n_workers} workers; {processor:.3f} by the main process's time)"
        )


def get(backbone: Any, dataset: Dataset, root: Path, n_workers: int) -> Any:
    return FeatureStore(root).get(
        backbone,
        dataset,
        "train",
        ["pooled"],
        batch_size=BATCH,
        n_workers=n_workers,
        device=getattr(backbone, "device", "cpu"),
        progress=False,
    )


class Identity:
    """Hands rows through: what is left is the store."""

    name, kinds, n_prefix_tokens, n_parameters = "identity", ("pooled",), 0, 0

    def identity(self) -> dict[str, Any]:
        return {"name": "identity"}

    def transform(self, row: Any) -> torch.Tensor:
        return row

    def extract(self, batch: torch.Tensor, kinds: Any) -> dict[str, torch.Tensor]:
        return {"pooled": batch}

    def to(self, device: str) -> Identity:
        return self


def opening_and_verifying(folder: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    n, d = 50_000, 768
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    dataset = Dataset("wide", ("a", "b"), {"train": Rows(rows, "wide")})
    store, backbone = FeatureStore(folder / "wide"), Identity()
    options = {"batch_size": 256, "device": "cpu", "progress": False}
    took = seconds(lambda: store.get(backbone, dataset, "train", ["pooled"], **options))
    report(f"tabular              {n / took:,.0f} rows/s of {d} numbers")
    opened = statistics.median(
        seconds(lambda: (entry._GUARDS.clear(), store.get(backbone, dataset, "train", ["pooled"], **options)))
        for _ in range(5)
    )
    features = store.get(backbone, dataset, "train", ["pooled"], **options)
    report(f"open                 {1e3 * opened:.1f} ms for {features.arrays['pooled'].nbytes / 1e6:.0f} MB")
    X = features.arrays["pooled"]
    first, again = seconds(lambda: X[:].sum()), statistics.median(seconds(lambda: X[:].sum()) for _ in range(3))
    y = features.labels
    fit = seconds(lambda: LogisticRegression(max_iter=30, tol=1e-12).fit(X[:10_000], y[:10_000])) * n / 10_000
    cost = first - again
    report(f"verify               {X.nbytes / cost / 1e9:.1f} GB/s, {100 * cost / fit:.2f} % of 30 L-BFGS steps")


def weights() -> None:
    tensors = {str(i): torch.zeros(10**6) for i in range(300)}
    print(
        f"weights              {min(seconds(lambda: hash_tensors(tensors)) for _ in range(3)):.2f} s for 300M float32"
    )


def report(line: str) -> None:
    print(line, flush=True)


PARTS = ("memory", "files", "reading", "weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if "memory" in arguments.parts:
            backbone = Network(arguments.model, arguments.size, arguments.device)
            in_memory(backbone, arguments.rows, arguments.repeats, Path(folder))
        if "files" in arguments.parts:
            from_files(
                arguments.model, arguments.size, arguments.rows, arguments.repeats, Path(folder), arguments.workers
            )
        if "reading" in arguments.parts:
            opening_and_verifying(Path(folder))
    if "weights" in arguments.parts:
        weights()


if __name__ == "__main__":
    main()
