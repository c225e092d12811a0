"""Vision transformers of timm and open_clip with random weights: one of each way to attend, to scale and to place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn

from probe.backbones.open_clip import OpenClipBackbone
from probe.backbones.timm import TimmBackbone

SMALL = {"depth": 2, "embed_dim": 32, "num_heads": 4, "img_size": 32, "patch_size": 16}
VITS = {
    "vit_tiny_patch16_224": {},
    "vit_base_patch16_siglip_224": {},
    "vit_small_patch14_dinov2": {},
    "vit_small_patch14_reg4_dinov2": {},
    "deit3_small_patch16_224": {},
    "beit_base_patch16_224": {"init_values": 0.5, "img_size": 224},
    "eva02_tiny_patch14_224": {},
    "vit_small_patch16_dinov3": {},
}


def shake(made: nn.Module) -> nn.Module:
    """Weights so large that no part is small beside the embeddings."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 1 / weight[:1].numel() ** 0.5 if weight.ndim > 1 else 0.5)
    return made


def positions_of(name: str) -> tuple[str, ...]:
    """Where its tokens can be read: one of them has no prefix token."""
    return ("mean",) if "siglip" in name else ("cls", "mean")


def timm_vit(name: str, taps: Sequence[str], **more: int) -> tuple[TimmBackbone, Tensor]:
    """A small one of timm's, and two images."""
    options = {**SMALL, **VITS[name], **more}
    size = options.pop("img_size")
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    backbone = TimmBackbone(name, pretrained=False, img_size=size, model_kwargs=options, taps=taps)
    shake(backbone.network)
    return backbone, images


def open_clip_vit(folder: Path, taps: Sequence[str], scaled: bool = False) -> tuple[OpenClipBackbone, Tensor]:
    """A small one of open_clip's, with LayerScale or without, and two images."""
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    vision |= {"ls_init_value": 0.5} if scaled else {}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    name = f"probe-test-quantities-{scaled}"
    (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return OpenClipBackbone(name, pretrained=None, taps=taps), images
