"""Class tokens that look at the places of a map."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from probe.core.errors import InputError
from probe.heads.dense_tokens import ClassTokens, DenseTokens
from probe.heads.shared.dense_training import Standardised
from probe.heads.shared.head import Head


@pytest.fixture
def scenes():
    random = np.random.default_rng(0)
    codes = random.integers(0, 3, size=(24, 3, 3))
    maps = 0.3 * random.normal(size=(24, 4, 3, 3)) + 4 * np.eye(4)[codes].transpose(0, 3, 1, 2)
    return maps.astype(np.float32), codes.repeat(4, 1).repeat(4, 2).astype(np.uint8)


def quick(**options):
    return DenseTokens(**{"dim": 16, "heads": 2, "mlp": 2, "epochs": 2, "batch_size": 8, "device": "cpu"} | options)


def decoder(depth):
    torch.manual_seed(0)
    norm = Standardised(np.zeros(4), np.ones(4))
    return ClassTokens(norm, torch.zeros(3), dim=16, depth=depth, heads=2, mlp=2).eval()


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_permuting_tokens_permutes_masks(depth):
    module, maps, order = decoder(depth), torch.randn(2, 4, 3, 5), torch.tensor([2, 0, 1])
    with torch.no_grad():
        module.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
        expected = module({"map": maps})[:, order]
        module.tokens.copy_(module.tokens[order].clone())
        module.bias.copy_(module.bias[order].clone())
        torch.testing.assert_close(module({"map": maps}), expected, atol=1e-5, rtol=1e-5)
    assert expected.shape == ((2, 3, 12, 20) if depth else (2, 3, 3, 5))


def test_with_depth_0_it_is_a_linear_map_of_the_features():
    module, a, b = decoder(0), torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    with torch.no_grad():
        mixed = module({"map": 0.3 * a + 0.7 * b})
        torch.testing.assert_close(mixed, 0.3 * module({"map": a}) + 0.7 * module({"map": b}))


def test_positions_tell_equal_places_apart():
    module = decoder(1)
    with torch.no_grad():
        logits = module({"map": torch.ones(1, 4, 3, 3)})[0, 0]
    assert float(logits[::4, ::4].std()) > 1e-4


def test_it_learns_where_classes_are(scenes):
    maps, masks = scenes
    head = quick(epochs=15, lrs=[0.02], batch_size=4).fit(maps[:20], masks[:20])
    assert head.logits(maps[20:]).shape == (4, 3, 12, 12)
    assert (head.predict(maps[20:]) == masks[20:]).mean() > 0.85


def test_clone_pickle_save_and_load_keep_every_bit(scenes, tmp_path):
    head = quick().fit(*scenes)
    head.save(tmp_path / "head.safetensors")
    for copy in (pickle.loads(pickle.dumps(head)), Head.load(tmp_path / "head.safetensors")):
        np.testing.assert_array_equal(copy.predict(scenes[0]), head.predict(scenes[0]))
    np.testing.assert_array_equal(clone(head).fit(*scenes).logits(scenes[0]), head.logits(scenes[0]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dim": 20}, r"dim is 20 with 2 heads, expected a multiple of 8 and of 4: set head\.dim=64 head\.heads=4"),
        ({"depth": -1}, r"depth is -1, heads 2 and mlp 2, expected at least 0, 1 and 1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, text, scenes):
    with pytest.raises(InputError, match=text):
        quick(**change).fit(*scenes)


def test_the_remedy_for_its_shape_works(scenes):
    quick(dim=64, heads=4, epochs=1).fit(*scenes)
