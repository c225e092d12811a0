"""Pretrains the embedded backbone without labels: Barlow Twins on the CIFAR-10 train images.

    python recipes/barlow_twins.py --data ../shared/data/cifar10 --out runs/barlow_twins

Zbontar, Jing, Misra, LeCun, Deny: "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021,
arXiv 2103.03230. Departures, all for a small budget: a 1.1 M parameter network on 32 x 32 images, AdamW instead of
LARS, no blur (it erases what 32 pixels hold), hue turned in YIQ space so that the whole colour jitter of one image is
one 3 x 4 matrix and a batch is augmented at once.

Killed at any moment, the same command goes on from the last finished epoch; the seed fixes weights, order and views.
"""

from __future__ import annotations

import argparse
import io
import math
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from probe.backbones.shared.tiny_network import MEAN, STD, build_network

RGB_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
LUMA = RGB_TO_YIQ[0]


def barlow_twins_loss(z_a: Tensor, z_b: Tensor, off_diagonal_weight: float = 0.0051) -> Tensor:
    """sum_i (1 - C_ii)^2 + weight * sum_{i != j} C_ij^2, with C the cross-correlation of the views over the batch.

    Args:
        z_a: Projections of the first view, (N, D).
        z_b: Projections of the second view, same rows.
        off_diagonal_weight: The paper's lambda.
    """
    z_a, z_b = (F.batch_norm(z.float(), None, None, training=True, eps=1e-5) for z in (z_a, z_b))
    C = z_a.T @ z_b / len(z_a)
    diagonal = torch.diagonal(C)
    return (1 - diagonal).square().sum() + off_diagonal_weight * (C.square().sum() - diagonal.square().sum())


def projector(n_in: int, width: int) -> nn.Sequential:
    """The paper's three layers, without biases, batch normalisation between."""
    layers: list[nn.Module] = []
    for n in (n_in, width):
        layers += [nn.Linear(n, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, width, bias=False))


def uniform(n: int, low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty(n, device=like.device).uniform_(low, high, generator=generator)


def colour_matrices(n: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, saturation and hue of n images as (n, 3, 3) matrices on RGB; 80 % jittered, 20 % grey."""
    to_yiq, luma = RGB_TO_YIQ.to(like.device), LUMA.to(like.device)
    eye = torch.eye(3, device=like.device)
    grey = luma.expand(3, 3)
    brightness = uniform(n, 0.6, 1.4, like, generator)[:, None, None]
    saturation = uniform(n, 0.6, 1.4, like, generator)[:, None, None]
    angle = uniform(n, -0.1, 0.1, like, generator) * 2 * math.pi
    turn = torch.zeros(n, 3, 3, device=like.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    hue = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    jitter = brightness * (saturation * eye + (1 - saturation) * grey) @ hue
    chance = uniform(n, 0, 1, like, generator)[:, None, None]
    jitter = torch.where(chance < 0.8, jitter, eye)
    chance = uniform(n, 0, 1, like, generator)[:, None, None]
    return torch.where(chance < 0.2, grey @ jitter, jitter)


def random_crops(images: Tensor, min_area: float, generator: torch.Generator) -> Tensor:
    """A random resized crop and flip of each image in one bilinear resampling; `images` is (n, 3, H, W)."""
    n = len(images)
    area = uniform(n, min_area, 1, images, generator)
    ratio = uniform(n, math.log(3 / 4), math.log(4 / 3), images, generator).exp()
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    flip = uniform(n, 0, 1, images, generator).lt(0.5).float() * 2 - 1
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = width * flip, height
    theta[:, 0, 2] = uniform(n, -1, 1, images, generator) * (1 - width)
    theta[:, 1, 2] = uniform(n, -1, 1, images, generator) * (1 - height)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def view(images: Tensor, generator: torch.Generator, solarize: float, min_area: float) -> Tensor:
    """One random view of each image, normalised; `images` uint8 (n, 3, H, W)."""
    n = len(images)
    x = random_crops(images.float() / 255, min_area, generator)
    contrast = uniform(n, 0.6, 1.4, images, generator)[:, None, None, None]
    contrast = torch.where(uniform(n, 0, 1, images, generator)[:, None, None, None] < 0.8, contrast, 1.0)
    x = torch.einsum("nij,njhw->nihw", colour_matrices(n, images, generator), x)
    mean = torch.einsum("j,njhw->n", LUMA.to(x.device), x)[:, None, None, None] / x[0, 0].numel()
    x = (contrast * x + (1 - contrast) * mean).clamp(0, 1)
    chosen = uniform(n, 0, 1, images, generator)[:, None, None, None] < solarize
    x = torch.where(chosen & (x >= 0.5), 1 - x, x)
    mean_, std = (torch.tensor(v, device=x.device)[:, None, None] for v in (MEAN, STD))
    return ((x - mean_) / std).contiguous(memory_format=torch.channels_last)


def load_images(folder: Path) -> Tensor:
    """All train images of a CIFAR-10 parquet folder as uint8 (n, 3, 32, 32); labels are never read."""
    import pyarrow.parquet as pq
    from PIL import Image

    files = sorted(folder.glob("train-*.parquet"))
    if not files:
        raise SystemExit(f"no train-*.parquet in {folder}: give the folder of CIFAR-10 with --data")
    encoded = [row["bytes"] for f in files for row in pq.read_table(f, columns=["image"])["image"].to_pylist()]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(b)).convert("RGB")) for b in tqdm(encoded, "decode")])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def learning_rate(step: int, n_steps: int, n_warmup: int, peak: float) -> float:
    if step < n_warmup:
        return peak * (step + 1) / n_warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / (n_steps - n_warmup)))


def save_atomically(path: Path, save) -> None:
    partial = path.with_suffix(".partial")
    save(partial)
    os.replace(partial, path)


def train(options: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    images = load_images(options.data).to(device)
    network = build_network().to(device, memory_format=torch.channels_last)
    head = projector(network.num_features, options.projector_width).to(device)
    matrices = [p for m in (network, head) for p in m.parameters() if p.ndim > 1]
    vectors = [p for m in (network, head) for p in m.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    )
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "checkpoint.pt"
    first_epoch = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        first_epoch = state["epoch"]

    per_epoch = len(images) // options.batch_size
    n_steps, n_warmup = options.epochs * per_epoch, options.warmup_epochs * per_epoch
    for epoch in range(first_epoch, options.epochs):
        # One generator per epoch: a resumed run draws what an uninterrupted one would have drawn.
        generator = torch.Generator(device).manual_seed(options.seed * 100_003 + epoch)
        order = torch.randperm(len(images), generator=generator, device=device)
        bar = tqdm(range(per_epoch), f"epoch {epoch + 1}/{options.epochs}", mininterval=5)
        total = 0.0
        for i in bar:
            batch = images[order[i * options.batch_size : (i + 1) * options.batch_size]]
            views = [view(batch, generator, solarize, options.min_area) for solarize in (0.0, 0.2)]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(epoch * per_epoch + i, n_steps, n_warmup, options.lr)
            with torch.autocast(device.type, torch.bfloat16):
                # Each view goes through alone: batch statistics are per view, as in the paper's code.
                z_a, z_b = (head(network(v)) for v in views)
            loss = barlow_twins_loss(z_a, z_b, options.off_diagonal_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item()
            bar.set_postfix(loss=f"{total / (i + 1):.1f}")
        state = {"network": network.state_dict(), "head": head.state_dict(), "optimizer": optimizer.state_dict()}
        save_atomically(checkpoint, lambda path: torch.save({**state, "epoch": epoch + 1}, path))  # noqa: B023
    half = {name: t.half() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    half = {name: t.cpu().contiguous() for name, t in half.items() if not name.endswith("num_batches_tracked")}
    save_atomically(options.out / "tiny.safetensors", lambda path: save_file(half, path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train-*.parquet of CIFAR-10")
    parser.add_argument("--out", type=Path, default=Path("runs/barlow_twins"))
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--warmup-epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--projector-width", type=int, default=1024)
    parser.add_argument("--off-diagonal-weight", type=float, default=0.0051)
    parser.add_argument("--min-area", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
