"""A linear head of depths on maps, trained on pixels."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from probe.core.errors import InputError
from probe.heads.dense_depth import DenseDepth
from probe.heads.shared.dense_loss import silog_loss
from probe.heads.shared.head import Head


@pytest.fixture
def scenes():
    """Maps (24, 4, 3, 3), of which the first channel is the depth of a place, and depths (24, 6, 6), a row without."""
    random = np.random.default_rng(0)
    depths = random.uniform(1, 9, size=(24, 3, 3))
    maps = np.concatenate([depths[:, None], random.normal(size=(24, 3, 3, 3))], axis=1)
    numbers = depths.repeat(2, 1).repeat(2, 2).astype(np.float32)
    numbers[:, 0] = np.nan
    return maps.astype(np.float32), numbers


def quick(**options):
    return DenseDepth(**{"epochs": 4, "batch_size": 8, "lrs": [0.03], "bins": 16, "device": "cpu"} | options)


def error(head, maps, numbers):
    return np.sqrt(np.nanmean((head.predict(maps) - numbers) ** 2))


def test_silog_by_hand():
    """Two pixels a factor e too far and one right, one without a label: g = 1, 1, 0."""
    labels = torch.tensor([[[1.0, 2.0, 3.0, torch.nan]]])
    numbers = torch.tensor([[[np.e, 2 * np.e, 3.0, 7.0]]], dtype=torch.float32)
    for focus in (0.0, 0.85, 1.0):
        assert float(silog_loss(numbers, labels, focus)) == pytest.approx(np.sqrt(2 / 3 - focus * 4 / 9), rel=1e-5)
    assert float(silog_loss(5 * numbers, labels, 1.0)) == pytest.approx(float(silog_loss(numbers, labels, 1.0)))


def test_the_loss_of_perfect_and_of_no_pixels_has_a_slope_of_0():
    numbers = torch.full((1, 2, 2), 3.0, requires_grad=True)
    for labels in (torch.full((1, 2, 2), 3.0), torch.full((1, 2, 2), torch.nan)):
        (slope,) = torch.autograd.grad(silog_loss(numbers, labels, 0.85), numbers)
        assert not slope.any()


def test_a_feature_that_is_the_depth_is_read_off(scenes):
    """Where a place has one depth, a regression has next to no error."""
    maps, _ = scenes
    numbers = maps[:, 0].copy()
    shared, spread = {"lrs": [0.1], "batch_size": 24, "weight_decay": 0.0}, numbers.std()
    assert error(quick(bins=0, epochs=120, **shared).fit(maps, numbers), maps, numbers) < 0.02 * spread
    assert error(quick(bins=32, epochs=50, **shared).fit(maps, numbers), maps, numbers) < 0.25 * spread


def test_one_bin_is_a_constant_in_the_middle_of_the_range(scenes):
    maps, numbers = scenes
    head = quick(bins=1).fit(maps, numbers)
    np.testing.assert_allclose(head.predict(maps), (np.nanmin(numbers) + np.nanmax(numbers)) / 2, rtol=1e-6)


@pytest.mark.parametrize("weights", ["linear", "softmax"])
@pytest.mark.parametrize("spacing", ["uniform", "log"])
def test_depths_are_expected_values_of_the_bins(scenes, weights, spacing):
    maps, numbers = scenes
    head = quick(weights=weights, spacing=spacing, min_depth=0.5, max_depth=20.0).fit(maps, numbers)
    edges = np.linspace(0.5, 20, 17) if spacing == "uniform" else 0.5 * 40 ** (np.arange(17) / 16)
    centres = (edges[1:] + edges[:-1]) / 2 if spacing == "uniform" else np.sqrt(edges[1:] * edges[:-1])
    z = (
        np.einsum("kc,nchw->nkhw", head.weight_, (maps - head.norm_mean_) / head.norm_scale_)
        + head.bias_[:, None, None]
    )
    p = np.maximum(z, 0) + 0.1 if weights == "linear" else np.exp(z)
    expected = np.einsum("k,nkhw->nhw", centres, p / p.sum(1, keepdims=True))
    np.testing.assert_allclose(head.number_maps(maps), expected, rtol=1e-4)


def test_it_starts_near_the_mean_of_the_training_pixels(scenes):
    maps, numbers = scenes
    wanted = np.nanmean(numbers)
    for options in ({"bins": 0}, {"bins": 64, "weights": "softmax"}, {"bins": 64}):
        head = quick(epochs=1, lrs=[1e-9], max_depth=40.0, **options).fit(maps, numbers)
        # Linear weights have a floor, which draws towards the middle of the range.
        assert float(head.predict(maps).mean()) == pytest.approx(float(wanted), abs=2.0), options


def test_unlabelled_pixels_are_never_read(scenes):
    """Whatever stands there in the image: another row without a label is the same as one that was never there."""
    maps, numbers = scenes
    short = quick().fit(maps, np.where(np.arange(6)[:, None] < 2, np.nan, numbers).astype(np.float32))
    changed = numbers.copy()
    changed[:, :2] = np.inf
    np.testing.assert_array_equal(quick().fit(maps, changed).number_maps(maps), short.number_maps(maps))


def test_it_chooses_a_rate_on_validation_images(scenes):
    maps, numbers = scenes
    head = quick(lrs=[1e-6, 0.1], epochs=20)
    head.fit(maps[:16], numbers[:16], validation=(maps[16:20], numbers[16:20]))
    assert head.lr_ == head.selection_["chosen"]["lr"] == 0.1
    before, at_images = head.before_refit(), []
    for i in range(16, 20):
        at_images.append(error(before, maps[i : i + 1], numbers[i : i + 1]))
    assert head.selection_["searched"][1]["score"] == pytest.approx(-np.mean(at_images), rel=1e-5)
    alone = clone(head).set_params(**head.only({"lr": 0.1})).fit(maps[:16], numbers[:16])
    np.testing.assert_allclose(before.number_maps(maps), alone.number_maps(maps), atol=1e-5)


def test_a_larger_unit_gives_larger_numbers(scenes):
    maps, numbers = scenes
    one, other = (quick(epochs=2).fit(maps, factor * numbers).predict(maps) for factor in (1, 8))
    np.testing.assert_allclose(other, 8 * one, rtol=1e-3)


def test_clone_pickle_save_and_load_keep_every_bit(scenes, tmp_path):
    for options in ({}, {"bins": 0}):
        head = quick(**options).fit(*scenes)
        head.save(tmp_path / "head.safetensors")
        for copy in (pickle.loads(pickle.dumps(head)), Head.load(tmp_path / "head.safetensors")):
            np.testing.assert_array_equal(copy.predict(scenes[0]), head.predict(scenes[0]))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bins": -1}, "bins is -1, expected a whole number from 0"),
        ({"spacing": "sid"}, "spacing is 'sid', expected one of uniform, log"),
        ({"weights": "sigmoid"}, "weights is 'sigmoid', expected one of linear, softmax"),
        ({"variance_focus": 2}, "variance_focus is 2, expected a share from 0 to 1"),
        ({"min_depth": 5, "max_depth": 2}, "min_depth is 5 and max_depth 2, expected 0 < min_depth < max_depth"),
        ({"bins": True}, "bins is True, expected a whole number from 0"),
        ({"variance_focus": None}, "variance_focus is None, expected a share from 0 to 1"),
        ({"min_depth": "a"}, "min_depth is 'a' and max_depth None, expected 0 < min_depth < max_depth"),
        ({"max_depth": np.inf}, "max_depth inf, expected 0 < min_depth < max_depth"),
        ({"lrs": []}, "lrs is .*, expected positive numbers"),
        ({"max_depth": 0.5}, "the range of the head is 1.* to 0.5, expected two depths: set head.min_depth and head"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(scenes, options, told):
    with pytest.raises(InputError, match=told):
        quick(**options).fit(*scenes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda maps: maps - 5, "the maps that train have a number of -3.978, .*set dataset.min=0.001.*head=ridge"),
        (lambda maps: maps * np.nan, "the maps that train have no labelled pixel"),
        (lambda maps: maps[:5], "X has 24 images and y 5 maps: give one map per image"),
        (lambda maps: (maps > 3).astype(np.uint8), "expected maps .N, H, W. of floats: give the number of each pixel"),
    ],
)
def test_maps_that_cannot_be_learnt_are_refused(scenes, change, told):
    with pytest.raises(InputError, match=told):
        quick().fit(scenes[0], change(scenes[1]))


def test_validation_maps_that_have_no_logarithm_are_refused_before_training(scenes):
    X, maps = scenes
    with pytest.raises(InputError, match="the validation rows have a number of -1, which has no logarithm"):
        quick().fit(X[:12], maps[:12], validation=(X[12:], np.where(maps[12:] == np.nanmax(maps[12:]), -1, maps[12:])))
