"""The embedded backbone: a small residual network, pretrained without labels on 32 x 32 images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from probe.backbones.shared.checkpoints import load_checkpoint
from probe.backbones.shared.image_network import ImageNetwork, fast_layout
from probe.backbones.shared.outputs import map_kinds
from probe.backbones.shared.pixels import Normalisation, to_bytes
from probe.backbones.shared.tiny_network import IMAGE_SIZE, MEAN, STD, build_network
from probe.core.geometry import Geometry, Size, centred
from probe.core.images import require_image

UNTRAINED = {"pretrained": False, "checkpoint": None}
WEIGHTS = Path(__file__).parent / "weights" / "tiny.safetensors"


class TinyBackbone(ImageNetwork):
    """Barlow Twins on CIFAR-10 images, 1.1 M parameters; `recipes/barlow_twins.py` trains it.

    Gives `pooled` (N, 512), `tokens` (N, 16, 512) and `map` (N, 512, 4, 4). Images of another size are scaled, after
    the largest square was cut from their centre.

    Args:
        pretrained: False for random weights, the baseline.
        seed: Of the random weights.
        checkpoint: Weights to use instead of the embedded ones.
        checkpoint_prefix: What the names in it begin with, such as `model.`; null to find out.
        strict: False loads what fits of the checkpoint, and records in the identity what did not.
        precision: `float32` or `bfloat16`.
        taps: Further layers, see `FrozenNetwork`.
        compile: Whether the forward pass is compiled, see `ImageNetwork`.
    """

    runs_side_by_side = True

    def __init__(
        self,
        pretrained: bool = True,
        seed: int = 0,
        checkpoint: str | None = None,
        checkpoint_prefix: str | None = None,
        strict: bool = True,
        precision: str = "float32",
        taps: Sequence[str] = (),
        compile: bool = False,
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_network()
        self._misfits: dict[str, Any] = {}
        if pretrained or checkpoint:
            path = Path(checkpoint) if checkpoint else WEIGHTS
            self._misfits = load_checkpoint(network, str(path), checkpoint_prefix, strict)
            name = f"tiny:{path.stem}" if checkpoint else "tiny"
        else:
            name = "tiny-random"
        super().__init__(
            network,
            name=name,
            image_size=(IMAGE_SIZE, IMAGE_SIZE),
            precision=precision,
            taps=taps,
            memory_format=fast_layout(network),
            normalisation=Normalisation(MEAN, STD),
            compile=compile,
        )

    def transform(self, row: Any) -> Tensor:
        """One image as (3, 32, 32) bytes."""
        image = require_image(row, self.name)
        if image.size != (IMAGE_SIZE, IMAGE_SIZE):
            image = ImageOps.fit(image, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
        return to_bytes(image)

    def geometry(self, size: Size) -> Geometry:
        """The largest centred square."""
        return centred(size)

    def _features(self, batch: Tensor) -> dict[str, Tensor]:
        feature_map = self.network.forward_features(batch)
        return {"pooled": self.network.forward_head(feature_map), **map_kinds(feature_map)}

    def _architecture(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"family": "tiny", "version": 1}
        return {**facts, "misfits": self._misfits} if self._misfits else facts

    def _preprocessing(self) -> dict[str, Any]:
        return {
            "crop": "largest centred square",
            "size": [IMAGE_SIZE, IMAGE_SIZE],
            "interpolation": "bicubic",
            "antialias": True,
            "mean": list(MEAN),
            "std": list(STD),
        }
