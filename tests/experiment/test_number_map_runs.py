"""Runs on maps of numbers, from the dataset to what a reader sees."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from probe.backbones.shared.views import MultiView
from probe.backbones.tiny import TinyBackbone
from probe.core.errors import DoesNotFit, InputError
from probe.core.targets.number_map import NumberMap
from probe.datasets.depth_scenes import load
from probe.datasets.shapes import load as shapes
from probe.experiment.dense import SeenMasks, predictions
from probe.experiment.number_maps import coloured
from probe.experiment.reading import read
from probe.experiment.request import Run
from probe.experiment.run import check, draw, run
from probe.features.store import FeatureStore
from probe.heads.dense_depth import DenseDepth
from probe.heads.dense_linear import DenseLinear
from probe.heads.knn import KNearest
from probe.heads.mean import TrainingMean
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.patch_numbers import PatchNumbers
from probe.leaderboard.details import detail
from probe.leaderboard.index import read_folders
from probe.leaderboard.reading import read_run
from probe.leaderboard.table import build_table
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.results.reader import read_predictions
from probe.results.schema import OVERLAYS


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    scenes, store = load(n_train=60, n_test=12), FeatureStore(root / "cache")

    def build(head, backbone=None, **options):
        given = {"dataset": scenes, "protocol": Full(), "reads": {"map": "stages.0"}, **options}
        return Run(backbone=backbone or TinyBackbone(taps=["stages.0:map"]), head=head, store=store,
                   folder=root / "runs", device="cpu", features={"progress": False}, **given)  # fmt: skip

    return build


@pytest.fixture(scope="module")
def folders(asked):
    heads = {"mean": TrainingMean(), "ridge": RidgeProbe(), "dense": DenseDepth(bins=16, epochs=6, lrs=[0.1])}
    return {name: run(asked(head)) for name, head in heads.items()}


def record(folder):
    return json.loads((folder / "result.json").read_text())


def test_heads_that_see_the_image_beat_the_mean(folders):
    found = {name: record(folder)["metrics"] for name, folder in folders.items()}
    for name in ("ridge", "dense"):
        assert found[name]["image_rmse"]["high"] < found["mean"]["image_rmse"]["low"]
        assert found[name]["delta_1"]["low"] > found["mean"]["delta_1"]["high"]


def test_the_mean_is_that_of_the_training_pixels(asked, folders):
    """Its error is the spread of the test depths around it, image by image."""
    parts = asked(None).dataset.partitions
    head = PatchNumbers(TrainingMean()).fit(np.zeros((60, 1, 32, 32)), parts["train"].number_maps.numbers)
    centre = head.head_.value_[0]
    labels = np.asarray(parts["train"].labels)
    assert centre == pytest.approx(np.average(labels[:, 0], weights=labels[:, 1]), rel=1e-6)
    test = parts["test"].number_maps.numbers
    wanted = np.sqrt(np.nanmean((test - centre) ** 2, axis=(1, 2))).mean()
    assert record(folders["mean"])["metrics"]["image_rmse"]["value"] == pytest.approx(wanted, rel=2e-3)


def test_a_run_leaves_pictures_how_pixels_were_counted_and_no_pixel(folders):
    told = record(folders["dense"])
    assert [one["which"] for one in told["overlays"]] == ["best", "median", "worst"]
    with Image.open(folders["dense"] / OVERLAYS) as sheet:
        assert sheet.width >= 3 * (128 + 4)
    assert told["evaluation"] == {"size": "of the maps", "range": [1.0, 10.0], "windows": 0}
    assert read_run(folders["dense"])["evaluation"] == "size of the maps; range 1 to 10; windows none"
    kept = read_predictions(folders["dense"])
    assert {name: array.shape for name, array in kept.items()} == {
        "row": (12,), "label": (12, 2), "predicted": (12, 2), "errors": (12, 11)
    }  # fmt: skip
    assert kept["label"][:, 1].sum() < 12 * 32 * 32


def test_a_table_ranks_them_and_the_page_draws_the_means_of_images(folders):
    table = build_table(read_folders([*folders.values()]))
    assert table.metric == "image_rmse"
    drawn = detail(read_predictions(folders["dense"]), record(folders["dense"])["dataset"])
    assert (drawn["kind"], drawn["columns"][0]["unit"], len(drawn["columns"][0]["true"])) == ("number", "m", 12)


def test_what_is_scored_is_interpolated_from_the_grid_within_the_range(asked):
    """On an input that shows the whole image: torch's interpolation, clipped."""
    rows = read(draw(check(asked(None or RidgeProbe()))))
    head = PatchNumbers(RidgeProbe()).fit(rows.train.X, rows.train.targets)
    found = np.stack([*predictions(head, rows.test)])
    import torch

    grid = torch.from_numpy(head.number_maps(rows.test.X))[:, None]
    wanted = torch.nn.functional.interpolate(grid.float(), found.shape[1:], mode="bilinear")[:, 0]
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4)
    assert NumberMap("m", 1.0, 10.0).clipped(found).max() <= 10


def test_views_are_averaged_and_maps_are_flipped_with_their_image(asked):
    tiny, maps = TinyBackbone(), asked(None).dataset.partitions["test"].number_maps
    flips = MultiView(tiny, kind="flips", n=2)
    plain, flipped = (SeenMasks(maps, flips, view)[:3] for view in (0, 1))
    np.testing.assert_array_equal(flipped, plain[:, :, ::-1])
    told = record(run(asked(RidgeProbe(), flips, reads={})))
    assert told["metrics"]["image_rmse"]["value"] < 3


def test_few_shots_are_shares_of_the_images_by_mean_depth(asked):
    split = draw(check(asked(TrainingMean(), protocol=FewShot(k=2)))).split
    assert 0 < len(split.train) + len(split.validation) < 60


def test_other_scenes_test_it_in_the_same_unit_alone(asked):
    other = replace(load(n_train=4, n_test=6, seed=5), name="other")
    assert record(run(asked(RidgeProbe(), test_on=other)))["protocol"]["n_test"] == 6
    feet = replace(other, target=NumberMap("ft", 1.0, 10.0))
    with pytest.raises(InputError, match="depth in another unit"):
        run(asked(RidgeProbe(), test_on=feet))


@pytest.mark.parametrize(
    ("head", "options", "told"),
    [
        (NaiveBayes(), {}, "has a number per pixel, head naive_bayes fits .*: choose .*dense_depth.*ridge"),
        (DenseLinear(), {}, "has a number per pixel, head dense_linear fits a class per pixel: choose"),
        (DenseDepth(), {"dataset": shapes(n_train=8, n_test=4)}, "head dense_depth fits a number per pixel: choose"),
        (RidgeProbe(), {"calibrate": True}, "has a number per pixel, calibrate need one class per row: leave them out"),
        (RidgeProbe(), {"shuffle_labels": True}, "there is no control=shuffled_labels: leave it out"),
        (KNearest(), {"neural_collapse": True}, "there is no neural_collapse: leave it out"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(asked, head, options, told):
    with pytest.raises((InputError, DoesNotFit), match=told):
        check(asked(head, **options))


def test_colours_run_from_the_smallest_to_the_largest_and_holes_are_black():
    found = coloured(np.array([[1.0, 3.0, np.nan, -5.0]]), 1.0, 3.0)
    assert found.tolist() == [[[68, 1, 84], [253, 231, 37], [0, 0, 0], [68, 1, 84]]]
