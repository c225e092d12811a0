"""Where an input lies in its image: every family of backbones by images that are painted with their coordinates."""

import numpy as np
import pytest
import torch
from PIL import Image

from probe.backbones.module import ModuleBackbone
from probe.backbones.open_clip import OpenClipBackbone
from probe.backbones.shared.framing import of_processor, of_timm
from probe.backbones.shared.views import MultiView, cut
from probe.backbones.timm import TimmBackbone
from probe.backbones.tiny import TinyBackbone
from probe.core.errors import DoesNotFit
from probe.core.geometry import Geometry, Located, whole, window

SIZES = [(96, 96), (150, 101), (83, 160), (40, 33)]


def painted(size):
    """An image whose red rises from left to right and whose green rises from top to bottom."""
    width, height = size
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return Image.fromarray((255 * np.stack([x, y, 0 * x + 1], 2)).round().astype(np.uint8))


def found(pixels, size):
    """The geometry by which (3, H, W) pixels of 0 to 255 show a painted image; padded ones are not blue."""
    boxes = []
    inside = pixels[2] > 254
    for axis, channel in ((1, 0), (0, 1)):
        line = np.where(inside, pixels[channel], np.nan)[:, inside.any(0)][inside.any(1)]
        values = np.nanmean(line, axis=1 - axis) / 255 * size[1 - axis]
        places = np.flatnonzero(inside.any(1 - axis))
        keep = slice(3, -3)  # the filter of a resize is cut at the ends of an image
        slope, start = np.polyfit(places[keep] + 0.5, values[keep], 1)
        boxes.append((start, start + slope * pixels.shape[1 + axis]))
    (a, c), (b, d) = boxes
    return Geometry((min(a, c), b, max(a, c), d), flipped=a > c)


def agree(told, shown, size):
    """Within a third of a pixel of the image: bytes round, and filters reach over the edge."""
    assert told.flipped == shown.flipped
    np.testing.assert_allclose(told.box, shown.box, atol=0.35 + max(size) / 400)


@pytest.mark.parametrize("size", SIZES)
def test_tiny_and_module_show_the_largest_centred_square(size):
    for backbone in (TinyBackbone(pretrained=False), ModuleBackbone(torch.nn.Flatten(), size=24)):
        assert isinstance(backbone, Located)
        agree(backbone.geometry(size), found(backbone.transform(painted(size)).numpy(), size), size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["center", "border", "squash"])
@pytest.mark.parametrize("shown", [(64, 64), (48, 80)])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_timm_shows_what_its_transform_does(size, mode, shown, crop_pct):
    from timm.data import create_transform

    config = {"input_size": (3, *shown), "crop_pct": crop_pct, "crop_mode": mode, "mean": (0, 0, 0), "std": (1, 1, 1)}
    pixels = 255 * create_transform(**config, interpolation="bicubic", is_training=False)(painted(size)).numpy()
    agree(of_timm(config, size), found(pixels, size), size)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", SIZES)
def test_open_clip_shows_what_its_transform_does(size, mode):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from probe.backbones.shared.framing import of_open_clip

    config = PreprocessCfg(size=64, resize_mode=mode, mean=(0, 0, 0), std=(1, 1, 1))
    pixels = 255 * image_transform_v2(config, is_train=False)(painted(size)).numpy()
    agree(of_open_clip(vars(config), size, (64, 64)), found(pixels, size), size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ViTImageProcessor", {"size": {"height": 64, "width": 48}}),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}),
        ("BitImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    ],
)
def test_transformers_show_what_their_processors_do(size, name, options):
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, name)(**options, do_normalize=False, do_rescale=False)
    pixels = np.asarray(processor(images=painted(size), return_tensors="np")["pixel_values"][0], dtype=float)
    agree(of_processor(processor, size, "x"), found(pixels, size), size)


def test_a_processor_that_pads_is_refused_by_name():
    transformers = pytest.importorskip("transformers")
    with pytest.raises(DoesNotFit, match=r"images by YolosImageProcessor, of which it is not known .*backbone=timm"):
        of_processor(transformers.YolosImageProcessor(), (30, 20), "hf/yolos")


def test_backbones_of_images_say_where_they_look():
    timm = TimmBackbone("test_vit", pretrained=False)
    clip = OpenClipBackbone("ViT-S-32-alt", pretrained=None)
    for backbone in (timm, clip):
        size = (300, 240)
        pixels = backbone.transform(painted(size)).numpy().astype(float)
        agree(backbone.geometry(size), found(pixels, size), size)


def test_a_transform_of_ones_own_says_where_or_is_refused():
    def own(image):
        return torch.zeros(3, 8, 8)

    backbone = ModuleBackbone(torch.nn.Flatten(), transform=own, size=8)
    with pytest.raises(DoesNotFit, match=r"transform of its own.*an attribute geometry"):
        backbone.geometry((10, 10))
    own.geometry = whole
    assert backbone.geometry((10, 12)) == Geometry((0, 0, 10, 12))


@pytest.mark.parametrize(("kind", "n"), [("flips", 2), ("corners", 5), ("scales", 3), ("windows", 5), ("windows", 10)])
def test_masks_follow_the_views(kind, n):
    size = (150, 101)
    views = MultiView(TinyBackbone(pretrained=False), n=n, kind=kind)
    pixels = views.transform(painted(size)).numpy()
    for told, shown in zip(views.geometries(size), pixels, strict=True):
        agree(told, found(shown, size), size)


def test_random_crops_are_refused_for_masks():
    views = MultiView(TinyBackbone(pretrained=False), n=2, kind="crops")
    with pytest.raises(DoesNotFit, match=r"crops are drawn by the pixels .* set views\.kind=flips views\.n=2"):
        views.geometries((40, 40))


def test_windows_tile_the_image_and_count_no_pixel_twice():
    views = MultiView(TinyBackbone(pretrained=False), n=10, kind="windows")
    boxes = [view.box for view in views.geometries((90, 90))][1:]
    counts = sum(Geometry(box).shows(90, 90).astype(int) for box in boxes)
    assert (counts == 1).all()


def test_a_window_that_is_flipped_twice_is_not_flipped():
    outer = Geometry((10, 0, 50, 40), flipped=True)
    assert outer.then(outer.then(whole((40, 40)))).flipped is False
    assert outer.then(Geometry((0, 0, 10, 40))).box == (40, 0, 50, 40)


def test_a_mask_goes_where_the_pixels_go():
    mask = np.random.default_rng(0).integers(0, 9, (31, 47))
    picture = Image.fromarray(mask.astype(np.uint8))
    view = Geometry((5, 3, 40, 30), flipped=True)
    np.testing.assert_array_equal(view.seen(mask, 27, 35, 255), np.asarray(cut(picture, view)))
    beyond = Geometry((-10, 0, 57, 31)).seen(mask, 31, 67, 255)
    np.testing.assert_array_equal(beyond[:, 10:57], mask)
    assert (beyond[:, :10] == 255).all()
    assert (beyond[:, 57:] == 255).all()


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (7, 5)])
def test_spread_over_a_whole_image_is_bilinear_interpolation(grid):
    values = torch.randn(3, *grid, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.interpolate(values[None], (33, 21), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(whole((21, 33)).spread(values, 33, 21), wanted, atol=1e-5, rtol=1e-5)
    mirrored = Geometry((0, 0, 21, 33), flipped=True).spread(values.flip(2), 33, 21)
    torch.testing.assert_close(mirrored, wanted, atol=1e-5, rtol=1e-5)


def test_pixels_that_were_cropped_away_take_the_nearest_place():
    values = torch.arange(4.0).view(1, 1, 4)
    spread = window((80, 40), (80, 40), (40, 40)).spread(values, 40, 80)
    assert (spread[0, :, :20] == 0).all()
    assert (spread[0, :, 60:] == 3).all()
