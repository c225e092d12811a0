"""A patch is a row: pooled heads on the places of maps."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.base import clone

from probe.core.errors import InputError
from probe.core.maps import PixelRows
from probe.experiment.choosing import fit_on_folds
from probe.heads.dense_linear import DenseLinear
from probe.heads.knn import KNearest
from probe.heads.lda import LinearDiscriminant
from probe.heads.linear import LinearProbe
from probe.heads.linear_sgd import LinearSGD
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.dense_labels import class_shares, drawn_pixels, pixel_counts
from probe.heads.shared.head import Head
from probe.heads.shared.patch_head import PatchHead

POOLED = [LinearProbe, NearestClassMean, NaiveBayes, RidgeProbe, LinearDiscriminant, KNearest, LinearSGD]


@pytest.fixture
def scenes():
    """Maps (20, 5, 3, 4) and masks (20, 12, 16) of three classes, a place of 4 x 4 pixels each, a row ignored."""
    random = np.random.default_rng(0)
    codes = random.choice([0, 2, 5], size=(20, 3, 4))
    masks = codes.repeat(4, 1).repeat(4, 2).astype(np.uint8)
    masks[:, :4] = 255
    maps = random.normal(size=(20, 5, 3, 4)) + 4 * np.eye(6)[codes][..., :5].transpose(0, 3, 1, 2)
    return maps.astype(np.float32), masks, codes


@pytest.mark.parametrize("kind", POOLED)
def test_every_pooled_head_fits_patches_and_gives_logits_of_places(kind, scenes, tmp_path):
    maps, masks, codes = scenes
    head = PatchHead(kind()).fit(maps[:12], masks[:12], validation=(maps[12:16], masks[12:16]))
    assert head.logits(maps[16:]).shape == (4, 3, 3, 4)
    assert (head.predict(maps[16:]) == codes[16:]).mean() > 0.9
    assert head.classes_.tolist() == [0, 2, 5]
    head.save(tmp_path / "head.safetensors")
    rows = maps[16:].transpose(0, 2, 3, 1).reshape(-1, 5)
    np.testing.assert_array_equal(
        Head.load(tmp_path / "head.safetensors").predict(rows), head.predict(maps[16:]).ravel()
    )


def test_it_is_the_head_on_the_labelled_places(scenes):
    maps, masks, codes = scenes
    head = PatchHead(NearestClassMean()).fit(maps, masks)
    rows, labels = maps[:, :, 1:].transpose(0, 2, 3, 1).reshape(-1, 5), codes[:, 1:].ravel()
    np.testing.assert_array_equal(head.predict(maps).ravel(), NearestClassMean().fit(rows, labels).predict(
        maps.transpose(0, 2, 3, 1).reshape(-1, 5)))  # fmt: skip
    assert head.patches_ == {"n": 160, "left_out": 80, "grid": [3, 4], "classes_without": []}


def test_ignored_and_void_places_change_nothing(scenes):
    maps, masks, _ = scenes
    changed = maps.copy()
    changed[:, :, 0] = 1e4
    expected, found = (PatchHead(LinearDiscriminant()).fit(X, masks).logits(maps) for X in (maps, changed))
    np.testing.assert_array_equal(found, expected)


def test_it_chooses_on_places_of_validation_images(scenes):
    maps, masks, _ = scenes
    head = PatchHead(LinearProbe(Cs=[0.01, 1.0])).fit(maps[:12], masks[:12], validation=(maps[12:], masks[12:]))
    assert head.selection_["on"] == "validation"
    assert len(head.selection_["searched"]) == 2
    assert head.only({"C": 1.0})["head"].Cs == [1.0]


def test_it_chooses_on_folds_of_images(scenes):
    maps, masks, _ = scenes
    folds = np.arange(20) % 4
    head = fit_on_folds(PatchHead(LinearProbe(Cs=[0.01, 1.0])), maps, masks, folds, {})
    assert head.selection_["on"] == "4 folds of the training rows"


def test_a_class_that_no_place_shows_is_told_and_never_predicted(scenes):
    maps, masks, _ = scenes
    masks[0, 5, 5] = 7
    head = PatchHead(NearestClassMean()).fit(maps, masks)
    assert head.patches_["classes_without"] == [7]
    assert 7 not in head.predict(maps)


def test_a_sample_takes_so_many_places_of_each_image_and_class(scenes):
    maps, masks, codes = scenes
    head = PatchHead(NearestClassMean(), per_class=1)
    found = head.fit(maps, masks).patches_["n"]
    assert found == sum(len(np.unique(image[1:])) for image in codes)
    other = clone(head).set_params(random_state=1).fit(maps, masks)
    assert not np.array_equal(head.logits(maps), other.logits(maps))
    np.testing.assert_array_equal(clone(head).fit(maps, masks).logits(maps), head.logits(maps))


def test_soft_labels_are_drawn_in_proportion_to_the_pixels():
    maps, masks = np.zeros((4000, 1, 1, 1), np.float32), np.zeros((4000, 4, 4), np.uint8)
    masks[:, 0] = 1
    _, codes = PatchHead(label="soft")._rows(maps, masks, None)
    assert abs(codes.mean() - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert PatchHead(label="majority")._rows(maps, masks, None)[1].sum() == 0


@pytest.mark.parametrize("size", [(13, 9), (12, 16), (3, 4), (2, 2)])
def test_pixels_are_looked_at_as_interpolation_does(size):
    maps = np.random.default_rng(0).standard_normal((3, 5, 3, 4)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(torch.from_numpy(maps), size, mode="bilinear").numpy()
    at = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n * side for n, side in zip(size, (3, 4), strict=True)),
                              indexing="ij"), 2).reshape(-1, 2)  # fmt: skip
    rows = PixelRows(maps, np.repeat([2, 0], len(at)), np.tile(at, (2, 1)).astype(np.float32))
    found = rows[:].reshape(2, *size, 5).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, wanted[[2, 0]], atol=1e-5)
    some = np.array([7, 0, len(at)]) % len(rows)
    np.testing.assert_array_equal(rows[some], rows[:][some])
    assert rows[:0].shape == (0, 5)


def test_a_drawn_pixel_is_a_labelled_one_of_its_place_any_of_them_alike(scenes):
    _, masks, _ = scenes
    masks[:, 4:8, :4] = 255
    masks[:, 6, 1:3] = [1, 3]
    places, codes, at = drawn_pixels(masks, (3, 4), np.random.default_rng(0))
    per_image = np.setdiff1d(np.arange(12), np.arange(4))
    np.testing.assert_array_equal(places, np.concatenate([12 * i + per_image for i in range(20)]))
    y, x = (at * 4).astype(int).T
    np.testing.assert_array_equal(masks[places // 12, y, x], codes)
    np.testing.assert_array_equal(y // 4 * 4 + x // 4, places % 12)
    many = drawn_pixels(np.repeat(masks[:1], 4000, 0), (3, 4), np.random.default_rng(1))
    drawn = many[1][many[0] % 12 == 4]
    assert set(drawn) == {1, 3}
    assert abs((drawn == 1).mean() - 0.5) < 4 * 0.5 / 4000**0.5
    last = np.floor(many[2][many[0] % 12 == 11] * 4).astype(int)
    assert np.bincount((last[:, 0] - 8) * 4 + last[:, 1] - 12, minlength=16).min() > 4000 / 16 * 0.6


def test_with_pixels_a_linear_head_minimises_the_loss_of_the_interpolated_logits():
    """Noisy places: between them interpolation averages noise away, which places by themselves do not know."""
    random = np.random.default_rng(0)
    masks = gaussian_filter(random.standard_normal((120, 3, 32, 32)), (0, 0, 6, 6)).argmax(1).astype(np.uint8)
    shares = class_shares(masks, (8, 8), np.arange(3)).reshape(120, 8, 8, 3).transpose(0, 3, 1, 2)
    maps = (shares + 1.5 * random.standard_normal(shares.shape)).astype(np.float32)
    losses = {}
    for label in ("majority", "soft", "pixel"):
        head = PatchHead(LinearProbe(Cs=[1.0]), label=label).fit(maps[:80], masks[:80])
        logits = torch.nn.functional.interpolate(torch.from_numpy(head.logits(maps[80:])), (32, 32), mode="bilinear")
        losses[label] = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(masks[80:]).long()))
    trained = DenseLinear(lrs=[0.1], epochs=30, batch_size=16, device="cpu").fit(maps[:80], masks[:80])
    logits = torch.nn.functional.interpolate(torch.from_numpy(trained.logits(maps[80:])), (32, 32), mode="bilinear")
    on_pixels = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(masks[80:]).long()))
    assert losses["pixel"] < min(losses["majority"], losses["soft"]) - 0.01
    assert losses["pixel"] == pytest.approx(on_pixels, abs=0.01)


def test_shares_are_those_of_the_pixels_also_where_places_do_not_divide_them():
    masks = np.random.default_rng(0).integers(0, 3, (2, 10, 7)).astype(np.uint8)
    shares = class_shares(masks, (5, 7), np.array([0, 1, 2]))
    np.testing.assert_allclose(shares.sum(2), 1)
    np.testing.assert_allclose(shares[1, 9], np.bincount(masks[1, 2:4, 2], minlength=3) / 2)
    odd = class_shares(masks, (3, 2), np.array([0, 1, 2]))
    np.testing.assert_allclose(odd[0, 0], np.bincount(masks[0, :3, :3].ravel(), minlength=3)[:3] / 9, atol=0.2)


def test_pixels_of_255_and_negative_ones_have_no_class():
    assert [v.tolist() for v in pixel_counts(np.array([[[3, 255]]], np.uint8))] == [[3], [1]]
    assert [v.tolist() for v in pixel_counts(np.array([[[3, -1, 255]]]))] == [[3, 255], [1, 1]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"label": "hard"}, r"patches\.label is 'hard', expected one of majority, soft, pixel: change it"),
        ({"per_class": 0}, r"patches\.per_class is 0, expected null or a whole number from 1: change it"),
    ],
)
def test_options_that_mean_nothing_are_refused(change, text, scenes):
    with pytest.raises(InputError, match=text):
        PatchHead(NearestClassMean(), **change).fit(*scenes[:2])


def test_masks_of_other_images_or_of_no_whole_numbers_are_refused(scenes):
    maps, masks, _ = scenes
    with pytest.raises(InputError, match=r"X has 20 images and y 3 masks: give one mask per image"):
        PatchHead(NearestClassMean()).fit(maps, masks[:3])
    with pytest.raises(InputError, match=r"y has shape \(20, 12, 16\) and dtype float64, expected masks \(N, H, W\)"):
        PatchHead(NearestClassMean()).fit(maps, masks / 2)
    with pytest.raises(InputError, match=r"patches that train have one class only \(0\).*patches\.label=soft"):
        PatchHead(NearestClassMean()).fit(maps, np.zeros_like(masks))
