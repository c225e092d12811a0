"""Images that are thousands of times as long as wide, on their way to a backbone that keeps the centre square."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from probe.backbones.huggingface import HuggingFaceBackbone
from probe.backbones.module import ModuleBackbone
from probe.backbones.open_clip import OpenClipBackbone
from probe.backbones.timm import TimmBackbone
from probe.backbones.tiny import TinyBackbone
from probe.core import images

SIDE = 288
"""No backbone here scales the shorter side to more."""
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def clip(folder):
    import transformers

    grid = {"image_size": 32, "patch_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 24}
    transformers.ViTModel(transformers.ViTConfig(**grid, intermediate_size=32)).save_pretrained(folder)
    size = {"shortest_edge": 32}
    transformers.CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return HuggingFaceBackbone(str(folder))


def open_clip(folder):
    import open_clip

    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    tower = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    config = {"embed_dim": 24, "vision_cfg": tower, "text_cfg": text}
    (folder / "probe-test-strip.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return OpenClipBackbone("probe-test-strip", pretrained=None)


BUILDERS = {
    "huggingface": clip,
    "open_clip": open_clip,
    "timm": lambda _: TimmBackbone("resnet10t", pretrained=False),
    "tiny": lambda _: TinyBackbone(pretrained=False),
    "module": lambda _: ModuleBackbone("torch.nn:Flatten", size=32),
}


@pytest.fixture(params=sorted(BUILDERS))
def backbone(request, tmp_path):
    return BUILDERS[request.param](tmp_path)


def largest(backbone, image, monkeypatch):
    """Pixels of the largest image that is made on the way."""
    sizes = [image.width * image.height]
    resize, process = Image.Image.resize, getattr(backbone, "_processor_output", None)

    def resized(image, size, *args, **kwargs):
        sizes.append(size[0] * size[1])
        return resize(image, size, *args, **kwargs)

    def processed(image):
        sizes.append(SIDE * SIDE * max(image.size) // min(image.size))
        return process(image)

    monkeypatch.setattr(Image.Image, "resize", resized)
    if process:  # resizes with torch
        monkeypatch.setattr(backbone, "_processor_output", processed)
    backbone.transform(image)
    monkeypatch.undo()
    return max(sizes)


@pytest.mark.parametrize(("width", "height"), [(3000, 1), (1, 3000), (60_000, 3)])
def test_a_strip_makes_no_image_of_gigabytes(backbone, width, height, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert largest(backbone, Image.fromarray(pixels), monkeypatch) <= SIDE * SIDE * images.STRIP


@pytest.mark.parametrize(("width", "height"), [(301, 7), (7, 301), (300, 1)])
def test_a_strip_gives_its_centre_square(backbone, width, height, monkeypatch):
    ramp = np.linspace(0, 255, max(width, height)).astype(np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None] if width > height else ramp[:, None, None], (height, width, 3))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    whole = backbone.transform(image)
    monkeypatch.setattr(images, "STRIP", 8)
    found = backbone.transform(image)
    assert (whole.double() - found.double()).abs().max() <= (1 if whole.dtype == torch.uint8 else 0.02)
