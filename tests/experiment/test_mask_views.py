"""Larger inputs and windows, from the images to the scores: what is seen, and that no pixel counts twice."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from probe.backbones.shared.views import MultiView
from probe.backbones.timm import TimmBackbone
from probe.backbones.tiny import TinyBackbone
from probe.core.targets.mask import Mask
from probe.datasets import shapes
from probe.datasets.shared.mask_rows import ArrayMasks, MaskPartition
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.experiment.dense import predictions
from probe.experiment.reading import read
from probe.experiment.request import Run
from probe.experiment.run import check, draw, run
from probe.features.store import FeatureStore
from probe.heads.dense_linear import DenseLinear
from probe.heads.lda import LinearDiscriminant
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.patch_head import PatchHead
from probe.protocols.full import Full
from probe.results.reader import read_predictions

SIDE = 48
BACKBONES = {
    "tiny": lambda: TinyBackbone(),
    "timm": lambda: TimmBackbone("test_vit", pretrained=False, img_size=64, crop_pct=1.0),
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    scenes, store = shapes.load(n_train=36, n_test=8, size=SIDE), FeatureStore(root / "cache")

    def build(backbone, head, **options):
        return Run(backbone, scenes, Full(), head, store, root / "runs", device="cpu", **options)

    return build


def result(folder):
    return json.loads((folder / "result.json").read_text())


def enlarged(logits, side):
    return torch.nn.functional.interpolate(torch.from_numpy(logits)[None].float(), (side, side), mode="bilinear")[0]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("per_side", [2, 3])
def test_windows_are_laid_side_by_side_and_averaged_with_the_image(asked, name, per_side):
    """Oracle: the windows' logits, each enlarged by itself, put together as tiles."""
    backbone = MultiView(BACKBONES[name](), n=per_side**2 + 1, kind="windows")
    rows = read(draw(check(asked(backbone, NearestClassMean()))))
    head = PatchHead(NearestClassMean()).fit(rows.train.X, rows.train.targets)
    n = len(rows.test.y)
    for place, found in enumerate(predictions(head, rows.test)):
        whole, *parts = (head.logits(rows.test.X[np.array([view * n + place])])[0] for view in range(per_side**2 + 1))
        tiles = [enlarged(part, SIDE // per_side) for part in parts]
        lines = [torch.cat(tiles[i : i + per_side], 2) for i in range(0, len(tiles), per_side)]
        wanted = head.classes_[(enlarged(whole, SIDE) + torch.cat(lines, 1)).argmax(0).numpy()]
        assert (found == wanted).mean() > 0.999  # where two classes are equal to the last digit


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("head", [NearestClassMean(), DenseLinear(epochs=1, lrs=[0.01])], ids=["patches", "pixels"])
def test_a_run_with_windows_counts_every_pixel_once(asked, name, head):
    backbone = BACKBONES[name]()
    plain, windows = (run(asked(b, head)) for b in (backbone, MultiView(backbone, n=5, kind="windows")))
    pixels = [read_predictions(folder)["confusion"][..., 2].sum() for folder in (plain, windows)]
    assert pixels == [8 * SIDE**2] * 2
    assert [result(folder)["evaluation"]["windows"] for folder in (plain, windows)] == [0, 4]


def test_heads_learn_from_the_image_and_from_each_window_once(asked):
    plain = result(run(asked(TinyBackbone(), NearestClassMean())))["patches"]
    found = result(run(asked(MultiView(TinyBackbone(), n=5, kind="windows"), NearestClassMean())))["patches"]
    assert found["n"] + found["left_out"] == 5 * (plain["n"] + plain["left_out"])


def test_windows_see_finer_than_the_image(asked):
    plain, windows = (
        result(run(asked(backbone, LinearDiscriminant())))["metrics"]["pixel_accuracy"]["value"]
        for backbone in (TinyBackbone(), MultiView(TinyBackbone(), n=10, kind="windows"))
    )
    assert windows > plain


def test_a_larger_input_gives_a_finer_grid_of_the_same_image(asked):
    backbone = TimmBackbone("test_vit", pretrained=False, img_size=448, crop_pct=1.0)
    assert backbone.shapes["map"][1:] == (28, 28)
    assert backbone.geometry((SIDE, SIDE)).box == (0, 0, SIDE, SIDE)
    found = result(run(replace(asked(backbone, NearestClassMean()), dataset=halves())))
    assert found["patches"]["grid"] == [28, 28]
    assert found["metrics"]["pixel_accuracy"]["value"] > 0.9


def halves(n=6):
    """Images whose left is dark and whose right is bright, from a column on that each has for itself."""
    masks = (np.arange(SIDE) > np.linspace(12, 36, n)[:, None]).astype(np.uint8)[:, None].repeat(SIDE, 1)
    codes = ArrayMasks(masks)
    pixels = (40 + 170 * masks[..., None]).repeat(3, 3).astype(np.uint8)
    rows = ArrayPartition(pixels, codes.counts(2), [str(i) for i in range(n)], target=Mask())
    part = MaskPartition(rows, codes, codes.fingerprint)
    parts = {"train": part.subset(np.arange(n - 2)), "test": part.subset(np.arange(n - 2, n))}
    return make_dataset("halves", ("dark", "bright"), parts, target=Mask(), rows="images")
