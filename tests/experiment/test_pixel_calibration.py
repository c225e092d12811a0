"""Temperature of the logits of pixels, from images that the fit did not see."""

import json

import numpy as np
import pytest
import torch

from probe.backbones.shared.views import MultiView
from probe.backbones.tiny import TinyBackbone
from probe.core.errors import InputError
from probe.datasets import shapes
from probe.experiment.fitting import fit_head
from probe.experiment.pixel_calibration import losses, sample, some
from probe.experiment.reading import read
from probe.experiment.request import Run
from probe.experiment.run import check, draw, run
from probe.features.store import FeatureStore
from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.patch_head import PatchHead
from probe.metrics.pixel_calibration import ece, log_loss
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    scenes, store, tiny = shapes.load(n_train=40, n_test=10), FeatureStore(root / "cache"), TinyBackbone()

    def build(head, n=1, **options):
        backbone = tiny if n == 1 else MultiView(tiny, n=n, kind="windows")
        given = {"protocol": Full(), "dataset": scenes} | options
        return Run(backbone, head=head, store=store, folder=root / "runs", device="cpu", **given)

    return build


def test_a_temperature_brings_the_loss_of_pixels_down(asked):
    record = json.loads((run(asked(NearestClassMean(), calibrate=True)) / "result.json").read_text())
    before, after = record["calibration"]["unscaled"], record["metrics"]
    assert record["calibration"]["n_held_out"] == 6
    assert after["scaled_pixel_log_loss"]["value"] < before["pixel_log_loss"]["value"]
    assert after["scaled_pixel_ece"]["value"] < before["pixel_ece"]["value"]
    for name in ("scaled_pixel_log_loss", "scaled_pixel_ece"):
        assert after[name]["low"] <= after[name]["value"] <= after[name]["high"]


@pytest.mark.parametrize("n", [1, 5])
def test_losses_are_those_of_all_pixels_at_once(asked, n):
    """Oracle: torch's cross-entropy of the pixels of all test images, and bins of confidence by hand."""
    rows = read(draw(check(asked(NearestClassMean(), n))))
    head = fit_head(PatchHead(NearestClassMean()), rows)
    (found,) = losses(head, rows.test, 6, (2.0,), None)
    logits, labels = sample(head, rows.test, 6)
    assert logits.shape == (10 * 32 * 32, 6)
    given, codes = torch.from_numpy(logits / 2).double(), torch.from_numpy(labels)
    wanted = torch.nn.functional.cross_entropy(given, codes)
    assert log_loss(found)[0] == pytest.approx(float(wanted), rel=1e-5)
    p, guess = given.softmax(1).max(1)
    gaps = (p - (guess == codes).double()).numpy()
    bins = np.ceil(p.numpy() * 15).astype(int)
    by_bin = [abs(gaps[bins == b].sum()) for b in range(1, 16)]
    assert ece(found)[0] == pytest.approx(sum(by_bin) / len(labels), abs=1e-3)


def test_held_out_images_reach_the_temperature_and_not_the_fit(asked):
    rows = read(draw(check(asked(NearestClassMean(), 5))))
    part = some(rows.train, np.array([4, 1]))
    n = len(rows.train.y)
    np.testing.assert_array_equal(part.X[np.arange(10)], rows.train.X[np.arange(10) // 2 * n + np.tile([4, 1], 5)])
    np.testing.assert_array_equal(part.places.masks[1], rows.train.places.masks[1])
    np.testing.assert_array_equal(part.targets[np.array([3])], rows.train.targets[n + 1][None])


@pytest.mark.parametrize("n", [1, 5])
def test_folds_of_few_images_keep_all_views_of_an_image_together(asked, n):
    rows = read(draw(check(asked(LinearProbe(Cs=[0.01, 1.0]), n, protocol=FewShot(2)))))
    folds = rows.train.in_views(rows.folds)
    assert len(folds) == len(rows.train.X) == n * len(rows.train.y)
    record = json.loads((run(asked(LinearProbe(Cs=[0.01, 1.0]), n, protocol=FewShot(2), calibrate=True)) /
                         "result.json").read_text())  # fmt: skip
    assert "folds" in record["selection"]["on"]
    assert record["calibration"]["chosen"]["C"] in (0.01, 1.0)


def test_too_few_images_to_hold_one_out_are_refused(asked):
    with pytest.raises(InputError, match="calibrate=true holds out a fifth of the training rows, which is none of"):
        draw(check(asked(NearestClassMean(), protocol=FewShot(1), calibrate=True)))
