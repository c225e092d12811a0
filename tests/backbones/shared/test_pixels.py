"""Bytes that are normalised on the device are, bit for bit, what the libraries' own transforms give on the CPU."""

import pickle

import numpy as np
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Normalize, PILToTensor, ToTensor

from probe.backbones.shared.pixels import Normalisation, split_transform, to_bytes

SIZES = [(1, 1), (37, 53), (201, 300), (225, 224), (640, 97)]


def of_timm(name, **options):
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    return timm.data.create_transform(**(config | options), is_training=False)


def of_open_clip(**options):
    return image_transform_v2(PreprocessCfg(**options), is_train=False)


WHOLE = {
    "imagenet": of_timm("resnet18"),
    "half": of_timm("vit_base_patch16_224"),
    "clip": of_timm("vit_base_patch16_clip_224", input_size=(3, 61, 45)),
    "dpn": of_timm("dpn68", crop_mode="border"),
    "squash": of_timm("eva02_base_patch14_448"),
    "open_clip": of_open_clip(),
    "longest": of_open_clip(size=(96, 64), resize_mode="longest", mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.7)),
    "none": of_open_clip(size=65, resize_mode="squash", interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3),
}


def noise(size):
    width, height = size
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_the_parts_of_a_transform_give_the_bits_of_the_whole(whole):
    transform, normalisation = split_transform(whole)
    images = [noise(size) for size in SIZES]
    pixels = torch.stack([pickle.loads(pickle.dumps(transform))(image) for image in images])
    assert pixels.dtype == torch.uint8
    assert torch.equal(normalisation(pixels), torch.stack([whole(image) for image in images]))


@pytest.mark.parametrize(
    "whole",
    [
        of_timm("resnet18", normalize=False),
        Compose([CenterCrop(8), PILToTensor()]),
        Compose([ToTensor(), CenterCrop(8)]),
        Compose([ToTensor(), CenterCrop(8), Normalize((0.5,) * 3, (0.5,) * 3)]),
        Compose([Normalize(0.5, 0.5)]),
        Compose([ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3), CenterCrop(8)]),
        to_bytes,
    ],
)
def test_a_transform_that_ends_otherwise_is_left_whole(whole):
    assert split_transform(whole) == (whole, None)


def test_what_is_normalised_already_passes_as_it_is():
    images = torch.rand(2, 3, 4, 5)
    assert Normalisation((0.5,) * 3, (0.2,) * 3)(images) is images


def test_bytes_are_channels_of_rows_that_can_be_stacked_at_once():
    pixels = to_bytes(noise((5, 4)))
    np.testing.assert_array_equal(pixels.permute(1, 2, 0), np.asarray(noise((5, 4))))
    assert pixels.is_contiguous()
