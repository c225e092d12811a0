"""A linear head on maps that is trained on pixels."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from probe.core.errors import InputError
from probe.heads.dense_linear import DenseLinear
from probe.heads.linear_sgd import LinearSGD
from probe.heads.shared.dense_loss import dice_loss, pixel_loss, resized
from probe.heads.shared.head import Head


@pytest.fixture
def scenes():
    """Maps (24, 4, 3, 3) and masks (24, 6, 6) of classes 0, 1 and 4, the last rare, one row of pixels ignored."""
    random = np.random.default_rng(0)
    codes = random.choice([0, 1, 4], size=(24, 3, 3), p=[0.6, 0.3, 0.1])
    maps = 2 * random.normal(size=(24, 4, 3, 3)) + 3 * np.eye(5)[codes][..., [0, 1, 4, 2]].transpose(0, 3, 1, 2)
    masks = codes.repeat(2, 1).repeat(2, 2).astype(np.uint8)
    masks[:, 0] = 255
    return maps.astype(np.float32), masks


def quick(**options):
    return DenseLinear(**{"epochs": 4, "batch_size": 8, "lrs": [0.01], "device": "cpu"} | options)


def test_a_1x1_convolution_and_bilinear_interpolation_commute():
    random = torch.Generator().manual_seed(0)
    maps, weight = torch.randn(2, 9, 4, 5, generator=random), torch.randn(3, 9, 1, 1, generator=random)
    logits_first = resized(torch.nn.functional.conv2d(maps, weight), 32, 40)
    features_first = torch.nn.functional.conv2d(resized(maps, 32, 40), weight)
    torch.testing.assert_close(logits_first, features_first, atol=1e-5, rtol=1e-5)


def test_on_maps_of_one_place_it_is_linear_sgd_with_normalisation():
    random = np.random.default_rng(0)
    X, y = random.normal(2, 3, size=(60, 5)).astype(np.float32), random.integers(0, 3, 60)
    X[:, :3] += 2 * np.eye(3)[y]
    shared = {"lrs": [0.01], "epochs": 5, "batch_size": 16, "weight_decay": 0.01, "device": "cpu"}
    wanted = LinearSGD(solver="adamw", scaling="standard", **shared).fit(X, y)
    found = DenseLinear(prior=False, **shared).fit(X[:, :, None, None], y[:, None, None])
    np.testing.assert_allclose(found.logits(X[:, :, None, None])[..., 0, 0], wanted.logits(X), atol=2e-4)


def test_dice_of_a_perfect_mask_is_0_and_of_a_disjoint_one_1():
    onehot = torch.nn.functional.one_hot(torch.randint(0, 2, (2, 4, 4)), 2).movedim(3, 1).float()
    torch.testing.assert_close(dice_loss(onehot, onehot), torch.zeros(2))
    torch.testing.assert_close(dice_loss(1 - onehot, onehot), torch.ones(2))


def test_the_loss_is_that_of_the_labelled_pixels():
    logits, codes = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    cross_entropy = torch.nn.functional.cross_entropy(logits, codes)
    torch.testing.assert_close(pixel_loss(logits, codes, 0.0), cross_entropy)
    halves = (pixel_loss(logits, codes, 0.0) + pixel_loss(logits, codes, 1.0)) / 2
    torch.testing.assert_close(pixel_loss(logits, codes, 0.5), halves)
    codes[:, 0] = -1
    changed = logits.clone()
    changed[:, :, 0] = 50 * torch.randn(2, 3, 4)
    torch.testing.assert_close(pixel_loss(changed, codes, 0.5), pixel_loss(logits, codes, 0.5))


def test_pixels_that_are_ignored_change_nothing(scenes):
    maps, masks = scenes
    blank = masks.copy()
    blank[:, 1] = 255
    expected = quick().fit(maps, blank).logits(maps)
    others = masks.astype(np.int64)
    others[:, :2] = -1
    np.testing.assert_array_equal(quick().fit(maps, others).logits(maps), expected)


def test_the_bias_begins_at_the_log_shares(scenes):
    maps, masks = scenes
    head = quick(epochs=1, lrs=[1e-9]).fit(maps, masks)
    labelled = masks[masks < 255]
    shares = [np.mean(labelled == k) for k in (0, 1, 4)]
    np.testing.assert_allclose(head.bias_, np.log(shares), atol=1e-6)
    assert head.classes_.tolist() == [0, 1, 4]


def test_it_learns_where_classes_are_and_chooses_a_rate_on_validation_images(scenes):
    maps, masks = scenes
    head = quick(lrs=[1e-6, 0.1], epochs=20)
    head.fit(maps[:16], masks[:16], validation=(maps[16:20], masks[16:20]))
    assert head.lr_ == head.selection_["chosen"]["lr"] == 0.1
    seen = masks[20:] < 255
    assert (head.predict(maps[20:])[seen] == masks[20:][seen]).mean() > 0.75
    alone = clone(head).set_params(**head.only({"lr": 0.1})).fit(maps[:16], masks[:16])
    np.testing.assert_allclose(head.before_refit().logits(maps), alone.logits(maps), atol=1e-6)


def test_without_validation_images_a_tenth_of_them_stands_in(scenes):
    assert quick(lrs=[0.01, 0.1]).fit(*scenes).selection_["on"] == "a tenth of the training rows"


def test_the_order_of_codes_permutes_the_logits(scenes):
    maps, masks = scenes
    renamed = np.array([7, 3, 0, 0, 9], np.uint8)[np.minimum(masks, 4)]
    renamed[masks == 255] = 255
    head, other = quick(prior=False).fit(maps, masks), quick(prior=False).fit(maps, renamed)
    assert other.classes_.tolist() == [3, 7, 9]
    head_start, other_start = head.weight_, other.weight_
    assert head_start.shape == other_start.shape == (3, 4)


def test_clone_pickle_save_and_load_keep_every_bit(scenes, tmp_path):
    head = quick().fit(*scenes)
    head.save(tmp_path / "head.safetensors")
    for copy in (pickle.loads(pickle.dumps(head)), Head.load(tmp_path / "head.safetensors")):
        np.testing.assert_array_equal(copy.predict(scenes[0]), head.predict(scenes[0]))
    np.testing.assert_array_equal(clone(head).fit(*scenes).logits(scenes[0]), head.logits(scenes[0]))


def test_a_class_that_only_validation_pixels_have_is_left_out_of_training(scenes):
    maps, masks = scenes
    train = masks[:16].copy()
    train[train == 4] = 255
    head = quick(lrs=[0.01, 0.1]).fit(maps[:16], train, validation=(maps[16:], masks[16:]))
    assert head.classes_.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dice": 2}, r"dice is 2, expected a share from 0 to 1: change the parameters"),
        ({"lrs": []}, r"lrs is \[\], expected positive numbers"),
        ({"epochs": 0}, r"epochs is 0 and batch_size 8, expected at least 1 each"),
        ({"weight_decay": -1}, r"weight_decay is -1, expected a number from 0"),
    ],
)
def test_parameters_that_cannot_be_trained_with_are_refused(change, text, scenes):
    with pytest.raises(InputError, match=text):
        quick(**change).fit(*scenes)


def test_masks_of_one_class_are_refused(scenes):
    maps, masks = scenes
    with pytest.raises(InputError, match=r"masks that train have one class only \(0\).*give more images"):
        quick().fit(maps, np.zeros_like(masks))
    with pytest.raises(InputError, match=r"map has shape \(24, 4\): give 4 axes"):
        quick().fit(maps[:, :, 0, 0], masks)
