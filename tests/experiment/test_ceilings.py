"""What a grid allows: against torch's own pooling and upsampling, and the values of the method's card."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate, one_hot

from probe.backbones.shared.views import MultiView
from probe.backbones.tiny import TinyBackbone
from probe.core.geometry import whole
from probe.datasets import depth_scenes, npz
from probe.datasets.shapes import load
from probe.experiment.ceilings import ceiling, least_rmse
from probe.metrics.evaluate import measure
from probe.metrics.shared.scores import score
from probe.metrics.shared.scores.mask import ImageTally

K = 6


def sees_all(size):
    return SimpleNamespace(image_size=size, geometry=whole)


def mean_iou(found, masks):
    ious = [((found == k) & (masks == k)).sum() / ((found == k) | (masks == k)).sum() for k in np.unique(masks)]
    return np.mean(ious)


@pytest.fixture(scope="module")
def test_part():
    return load(n_train=100, n_test=40).partitions["test"]


@pytest.mark.parametrize("side", [4, 8, 16])
def test_a_ceiling_is_that_of_pooling_and_upsampling(test_part, side):
    masks = np.stack([test_part.masks[i] for i in range(40)])
    shares = avg_pool2d(one_hot(torch.tensor(masks).long(), K).permute(0, 3, 1, 2).float(), 32 // side)
    expected = interpolate(shares, size=32, mode="bilinear", align_corners=False).argmax(1).numpy()
    found = ceiling(test_part, range(40), sees_all((32, 32)), (side, side), K)
    assert found == pytest.approx(mean_iou(expected, masks), abs=1e-6)


def test_a_grid_of_pixels_loses_nothing(test_part):
    assert ceiling(test_part, range(5), sees_all((32, 32)), (32, 32), K) == 1


def test_windows_lift_the_ceiling(test_part):
    backbone = TinyBackbone(pretrained=False)
    plain, windows = backbone, MultiView(backbone, kind="windows", n=5)
    found = [ceiling(test_part, range(40), one, (4, 4), K) for one in (plain, windows)]
    assert found[1] > found[0] + 0.05


def test_all_background_is_right_where_there_is_nothing(test_part):
    labels = test_part.labels
    tallies = [ImageTally.of(np.zeros((32, 32), dtype=int), test_part.masks[i], K) for i in range(40)]
    found = measure({"rows": score(tallies, labels, "mask")}).metrics
    share = labels[:, 0].sum() / labels.sum()
    assert found["pixel_accuracy"].value == pytest.approx(share)
    assert found["miou"].value == pytest.approx(share / (labels.sum(axis=0) > 0).sum())


@pytest.mark.slow
@pytest.mark.skipif("PROBE_SHAPES" not in os.environ, reason="PROBE_SHAPES names the card's own scenes, an .npz file")
def test_the_values_of_the_card_on_its_own_scenes():
    part = npz.load(os.environ["PROBE_SHAPES"]).partitions["test"]
    tallies = [ImageTally.of(np.zeros((32, 32), dtype=int), part.masks[i], K) for i in range(500)]
    found = {name: one.value for name, one in measure({"rows": score(tallies, part.labels, "mask")}).metrics.items()}
    assert found["miou"] == pytest.approx(0.133, abs=1e-3)
    assert found["pixel_accuracy"] == pytest.approx(0.800, abs=1e-3)
    assert found["boundary_accuracy"] == pytest.approx(0.489, abs=1e-3)
    for side, value in ((4, 0.419), (8, 0.699), (16, 0.918)):
        assert ceiling(part, range(500), sees_all((32, 32)), (side, side), K) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("side", [4, 8])
def test_the_least_rmse_is_that_of_pooling_and_upsampling(side):
    maps = np.stack([depth_scenes.scene(32, np.random.default_rng(row))[1] for row in range(5)])
    whole_maps = np.nan_to_num(maps, nan=5.0)
    pooled = interpolate(avg_pool2d(torch.tensor(whole_maps)[:, None], 32 // side), size=32, mode="bilinear")[:, 0]
    wanted = np.sqrt(((pooled.numpy() - whole_maps) ** 2).mean(axis=(1, 2))).mean()
    part = SimpleNamespace(number_maps=whole_maps)
    assert least_rmse(part, range(5), sees_all((32, 32)), (side, side)) == pytest.approx(wanted, rel=1e-5)
    holes = least_rmse(SimpleNamespace(number_maps=maps), range(5), sees_all((32, 32)), (side, side))
    assert holes < wanted  # 5 is none of their numbers


def test_a_grid_of_pixels_has_no_error():
    maps = depth_scenes.scene(32, np.random.default_rng(0))[1][None]
    part = SimpleNamespace(number_maps=maps)
    assert least_rmse(part, [0], sees_all((32, 32)), (32, 32)) == pytest.approx(0, abs=1e-6)
