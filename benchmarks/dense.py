"""`linear` on patches, ten values of C, against ten epochs of a 1 x 1 convolution trained by AdamW on the pixels.

OMP_NUM_THREADS=2 python benchmarks/dense.py [--images 2000] [--epochs 10] [--shapes path/to/shapes.npz]

Maps of 16 x 16 places and 384 channels in float16 on disk, masks of 224 x 224 and 20 classes of very unequal size. Both
choose and are scored on a tenth of the images, by mIoU over their pixels at 224 x 224. `linear` takes a drawn pixel of
every place (`patches.label=pixel`): the labels of whole places know nothing of what interpolation does between them,
and give .187 here. The usual recipe: batch normalisation, Conv1x1, logits interpolated to 224 x 224 in every step,
cross-entropy, 16 images a step, AdamW 1e-3 with weight decay 1e-4, linear warm-up over an epoch, then down to 0. Each
contender runs in a process of its own, which tells its seconds of processor (the ones to read on a busy machine) and of
wall clock, and its peak memory.
Expected: `linear` >= 10 times faster at equal or better mIoU, peak <= 2 GB, mapped files apart.

With `--shapes` instead the rows of the method's card: tiny on the card's scenes, final map .242, stages 0 to 2 .300,
with Dice .331, class tokens .379, each within .03.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDE, WIDTH, CLASSES, PIXELS, BATCH = 16, 384, 20, 224, 16
NOISE = 12.0
CARD = {"final map": 0.242, "stages 0 to 2": 0.300, "with Dice": 0.331, "class tokens": 0.379}
STAGES = ["stages.0:map", "stages.1:map", "stages.2:map"]


def write(folder: Path, n: int) -> None:
    """Smooth random regions as masks; each place holds the mean of the classes in its pixels, and noise."""
    import torch

    random = torch.Generator().manual_seed(0)
    means = torch.randn(CLASSES, WIDTH, generator=random)
    bias = torch.linspace(0.9, -0.9, CLASSES)[:, None, None]
    maps = np.lib.format.open_memmap(folder / "maps.npy", mode="w+", dtype=np.float16, shape=(n, WIDTH, SIDE, SIDE))
    masks = np.lib.format.open_memmap(folder / "masks.npy", mode="w+", dtype=np.uint8, shape=(n, PIXELS, PIXELS))
    for i in range(n):
        coarse = torch.randn(1, CLASSES, 5, 5, generator=random) + bias
        field = torch.nn.functional.interpolate(coarse, (PIXELS, PIXELS), mode="bicubic")[0]
        mask = field.argmax(0)
        shares = torch.nn.functional.one_hot(mask, CLASSES).float().view(SIDE, PIXELS // SIDE, SIDE, -1, CLASSES)
        place = shares.mean((1, 3)) @ means + NOISE * torch.randn(SIDE, SIDE, WIDTH, generator=random)
        maps[i], masks[i] = place.permute(2, 0, 1).numpy(), mask.numpy()


def parts(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Maps and masks that train, then those that validate."""
    maps, masks = (np.load(folder / name, mmap_mode="r") for name in ("maps.npy", "masks.npy"))
    cut = len(maps) - len(maps) // 10
    return maps[:cut], masks[:cut], maps[cut:], masks[cut:]


def miou(logits: Any, masks: Any) -> float:
    """Over the pixels of some images, from a function that gives logits (1, K, h, w) of one of them."""
    import torch

    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    for i, mask in enumerate(masks):
        large = torch.nn.functional.interpolate(logits(i), (PIXELS, PIXELS), mode="bilinear")
        cells = mask.astype(np.int64) * CLASSES + large[0].argmax(0).numpy()
        confusion += np.bincount(cells.ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return float((confusion.diagonal()[union > 0] / union[union > 0]).mean())


def patches(folder: Path, epochs: int) -> tuple[float, float, float]:
    import torch

    from probe.heads.linear import LinearProbe
    from probe.heads.shared.patch_head import PatchHead

    maps, masks, maps_val, masks_val = parts(folder)
    started = time.process_time(), time.perf_counter()
    linear = LinearProbe(Cs=10, refit=False, device="cpu")
    head = PatchHead(linear, label="pixel").fit(maps, masks, validation=(maps_val, masks_val))
    seconds = time.process_time() - started[0], time.perf_counter() - started[1]
    print(f"  C {head.selection_['chosen']['C']:.3g} of 10, {head.patches_['n']} patches", flush=True)
    return *seconds, miou(lambda i: torch.from_numpy(head.logits(maps_val[i : i + 1])).float(), masks_val)


def pixels(folder: Path, epochs: int) -> tuple[float, float, float]:
    import torch
    from torch import nn

    maps, masks, maps_val, masks_val = parts(folder)
    torch.manual_seed(0)
    head = nn.Sequential(nn.BatchNorm2d(WIDTH), nn.Conv2d(WIDTH, CLASSES, 1))
    steps = -(-len(maps) // BATCH)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-4)
    warmed = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / steps, (epochs * steps - step) / (max(epochs - 1, 1) * steps))
    )
    started = time.process_time(), time.perf_counter()
    random = np.random.default_rng(0)
    for _ in range(epochs):
        order = random.permutation(len(maps))
        for start in range(0, len(maps), BATCH):
            rows = np.sort(order[start : start + BATCH])
            x, y = torch.from_numpy(maps[rows]).float(), torch.from_numpy(masks[rows]).long()
            logits = nn.functional.interpolate(head(x), (PIXELS, PIXELS), mode="bilinear")
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(logits, y, ignore_index=255))
            optimizer.step()
            warmed.step()
    seconds = time.process_time() - started[0], time.perf_counter() - started[1]
    head.eval()
    with torch.no_grad():
        return *seconds, miou(lambda i: head(torch.from_numpy(np.array(maps_val[i : i + 1])).float()), masks_val)


class Peak:
    """The largest resident memory of this process, mapped files apart, looked at every 20 ms.

    Not `ru_maxrss`, which counts those, and which a child inherits from the process that started it.
    """

    def __init__(self) -> None:
        self.n_bytes = 0
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(0.02):
            status = Path("/proc/self/status").read_text()
            self.n_bytes = max(self.n_bytes, 1024 * int(status.split("RssAnon:")[1].split()[0]))

    def __enter__(self) -> Peak:
        self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._watcher.join()


CONTENDERS = {"patches": patches, "pixels": pixels}


def card(path: str) -> None:
    """The card's rows on its scenes, one seed."""
    import torch
    from PIL import Image

    from probe.backbones.tiny import TinyBackbone
    from probe.core.maps import SideBySide
    from probe.heads.dense_linear import DenseLinear
    from probe.heads.dense_tokens import DenseTokens

    scenes, backbone = np.load(path), TinyBackbone(taps=STAGES)
    found: dict[str, dict[str, Any]] = {}
    for part in ("train", "test"):
        images = torch.stack([backbone.transform(Image.fromarray(image)) for image in scenes[f"{part}_images"]])
        given = [backbone.extract(some, ["map", *STAGES]) for some in images.split(100)]
        found[part] = {k: np.concatenate([g[k].numpy() for g in given]).astype(np.float16) for k in given[0]}
    rates = {"lrs": [0.01], "device": "cpu"}
    heads = {
        "final map": (["map"], DenseLinear(**rates)),
        "stages 0 to 2": (STAGES, DenseLinear(**rates)),
        "with Dice": (STAGES, DenseLinear(dice=0.5, **rates)),
        "class tokens": (STAGES, DenseTokens(device="cpu")),
    }
    for name, (kinds, head) in heads.items():
        train, test = (SideBySide([found[part][kind] for kind in kinds])[:] for part in ("train", "test"))
        started = time.process_time()
        predicted = head.fit(train, scenes["train_masks"]).predict(test)
        cells = np.bincount((scenes["test_masks"].astype(int) * 6 + predicted).ravel(), minlength=36).reshape(6, 6)
        iou = cells.diagonal() / (cells.sum(0) + cells.sum(1) - cells.diagonal())
        seconds = time.process_time() - started
        print(f"{name:14} mIoU {iou.mean():.3f} (card {CARD[name]:.3f})  {seconds:.0f} s of processor", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--shapes")
    parser.add_argument("--run", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.shapes:
        return card(asked.shapes)
    if asked.run:
        with Peak() as watched:
            cpu, wall, score = CONTENDERS[asked.run](asked.folder, asked.epochs)
        print(f"{cpu} {wall} {score} {watched.n_bytes / 1e9}")
        return None
    found = {}
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), asked.images)
        for contender in CONTENDERS:
            words = [__file__, "--run", contender, "--folder", name, "--epochs", str(asked.epochs)]
            answer = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True).stdout
            *told, last = answer.splitlines()
            found[contender] = [float(value) for value in last.split()]
            cpu, wall, score, peak = found[contender]
            print(f"{contender:8} {cpu:7.1f} s of processor {wall:7.1f} s  mIoU {score:.4f}  peak {peak:.2f} GB", *told)
    ratio = found["pixels"][0] / found["patches"][0]
    wall = found["pixels"][1] / found["patches"][1]
    print(f"{ratio:.1f} times the processor of `linear`, {wall:.1f} times its wall clock")
    return None


if __name__ == "__main__":
    main()
