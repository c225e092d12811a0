"""Runs on masks, from the dataset to what a reader sees: overlays, classes, tables."""

import json

import numpy as np
import pytest
from PIL import Image

from probe.backbones.shared.views import MultiView
from probe.backbones.tiny import TinyBackbone
from probe.datasets.shapes import load
from probe.experiment.dense import prediction, predictions
from probe.experiment.reading import read
from probe.experiment.request import Run
from probe.experiment.run import check, draw, run
from probe.features.store import FeatureStore
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.patch_head import PatchHead
from probe.leaderboard.index import read_folders
from probe.leaderboard.reading import read_run
from probe.leaderboard.table import build_table
from probe.protocols.full import Full
from probe.results.reader import read_predictions
from probe.results.schema import OVERLAYS


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    scenes, store = load(n_train=60, n_test=12), FeatureStore(root / "cache")

    def build(backbone, **options):
        return Run(backbone=backbone, dataset=scenes, head=NearestClassMean(), protocol=Full(), store=store,
                   folder=root / "runs", device="cpu", **options)  # fmt: skip

    return build


@pytest.fixture(scope="module")
def tiny():
    return TinyBackbone(taps=["stages.0:map"])


@pytest.fixture(scope="module")
def folder(asked, tiny):
    return run(asked(tiny, reads={"map": "stages.0"}))


def test_a_run_leaves_overlays_and_every_class(folder):
    record = json.loads((folder / "result.json").read_text())
    assert [one["which"] for one in record["overlays"]] == ["best", "median", "worst"]
    assert OVERLAYS in record["files"]
    with Image.open(folder / OVERLAYS) as sheet:
        assert sheet.width == 3 * (128 + 4)
    classes = {one["name"]: one for one in record["classes"]}
    ious = [one["iou"]["value"] for one in classes.values() if "iou" in one]
    assert np.mean(ious) == pytest.approx(record["metrics"]["miou"]["value"])
    assert record["evaluation"]["averaged"] == [name for name, one in classes.items() if "iou" in one]


def test_a_table_checks_the_metrics_by_what_the_run_kept(folder):
    flat = read_run(folder)
    assert flat["evaluation"] == "size of the masks; ignored none; windows none"
    kept = read_predictions(folder)
    assert kept["confusion"][..., 2].sum() == 12 * 32 * 32 == kept["label"].sum()
    assert build_table(read_folders([folder])).metric == "miou"


def test_what_is_drawn_is_what_was_scored(asked, tiny):
    rows = read(draw(check(asked(MultiView(tiny, kind="flips", n=2)))))
    head = PatchHead(NearestClassMean()).fit(rows.train.X, rows.train.targets)
    every = [*predictions(head, rows.test)]
    for place in (0, 7, 11):
        np.testing.assert_array_equal(prediction(head, rows.test, place), every[place])
