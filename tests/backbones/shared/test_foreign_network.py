"""How the outputs of a network from anywhere lie: found out, asked for, or refused; never guessed."""

import pytest
import torch
from torch import nn

from probe.backbones.shared.foreign_network import ForeignNetwork
from probe.core.errors import InputError


class Gives(nn.Module):
    """Tokens or a map of a given shape, out of the pixels; the layers before it are there to be tapped."""

    def __init__(self, shape, **weights):
        super().__init__()
        self.shape = shape
        self.bias = nn.Parameter(torch.arange(torch.Size(shape).numel(), dtype=torch.float32))
        self.layer = nn.Identity()
        for name, weight in weights.items():
            self.register_parameter(name, nn.Parameter(weight))

    def forward(self, images):
        return self.layer(images.mean((1, 2, 3))[:, None] + self.bias).unflatten(1, self.shape)


class Backbone(ForeignNetwork):
    def __init__(self, shape, size=(8, 8), n_class_tokens=0, **options):
        super().__init__(Gives(shape), name="net", image_size=size, n_class_tokens=n_class_tokens, **options)

    def _features(self, batch):
        kinds = self._arranged(self.network(batch))
        return {"pooled": self._patches(kinds["tokens"]).mean(1), **kinds}

    def _architecture(self):
        return {}

    def _preprocessing(self):
        return {}


def told(backbone):
    """What the identity says of how outputs lie."""
    return {key: value for key, value in backbone.identity().items() if key in ("channels_last", "n_prefix_tokens")}


@pytest.mark.parametrize(
    ("shape", "size", "width", "last"),
    [
        ((6, 2, 2), (8, 8), 6, False),
        ((2, 2, 6), (8, 8), 6, True),
        ((2, 2, 1), (8, 8), 1, True),
        ((768, 1, 1), (8, 8), 768, False),
        ((1, 1, 768), (8, 8), 768, True),
        ((1, 1, 1), (8, 8), 1, False),
        ((6, 4, 2), (16, 8), 6, False),
        ((4, 2, 6), (16, 8), 6, True),
        ((64, 6, 5), (100, 96), 64, False),
    ],
)
def test_a_map_has_the_proportions_of_the_image(shape, size, width, last):
    backbone = Backbone(shape, size)
    assert backbone.shapes["pooled"] == (width,)
    assert backbone.shapes["map"][0] == width
    assert told(backbone) == ({"channels_last": {"output": True}} if last else {})


@pytest.mark.parametrize("shape", [(2, 2, 2), (3, 5, 4)])
def test_a_map_whose_shape_leaves_it_open_is_asked_about(shape):
    with pytest.raises(InputError, match=r"the output of backbone net has the shape .*set backbone\.layout=channels_f"):
        _ = Backbone(shape).shapes
    first, last = (Backbone(shape, layout=f"channels_{place}") for place in ("first", "last"))
    assert (first.shapes["pooled"], last.shapes["pooled"]) == (shape[:1], shape[-1:])
    assert (told(first), told(last)) == ({}, {"channels_last": {"output": True}})


def test_what_is_said_of_the_output_goes_before_what_is_seen():
    assert Backbone((6, 2, 2), layout="channels_last").shapes["pooled"] == (2,)
    with pytest.raises(InputError, match="layout is 'NHWC', expected one of channels_first, channels_last, sequence"):
        Backbone((6, 2, 2), layout="NHWC")


@pytest.mark.parametrize(
    ("n_tokens", "n_class_tokens", "n_prefix", "grid"),
    [(4, 0, 0, 2), (5, 1, 1, 2), (6, 2, 2, 2), (4, 1, 0, 2), (9, 5, 5, 2), (9, 1, 0, 3), (1, 1, 0, 1)],
)
def test_the_tokens_that_are_no_patches_are_counted_by_the_grid(n_tokens, n_class_tokens, n_prefix, grid):
    backbone = Backbone((n_tokens, 3), n_class_tokens=n_class_tokens)
    assert backbone.n_prefix_tokens == n_prefix
    assert backbone.shapes == {"pooled": (3,), "tokens": (n_tokens, 3), "map": (3, grid, grid)}
    assert told(backbone) == ({"n_prefix_tokens": {"output": n_prefix}} if n_prefix else {})
    batch = torch.zeros(1, 3, 8, 8)
    given = backbone.extract(batch, ["pooled", "tokens"])
    torch.testing.assert_close(given["pooled"], given["tokens"][:, n_prefix:].mean(1))


@pytest.mark.parametrize(("n_tokens", "options"), [(6, {"n_class_tokens": 1}), (5, {}), (6, {"n_prefix_tokens": 1})])
def test_patches_that_fill_no_grid_are_asked_about(n_tokens, options):
    with pytest.raises(InputError, match=rf"has {n_tokens} tokens, of which .*set backbone\.n_prefix_tokens .*=sequ"):
        _ = Backbone((n_tokens, 3), **options).shapes


def test_the_way_out_works():
    assert Backbone((6, 3), n_class_tokens=1, n_prefix_tokens=2).shapes["map"] == (3, 2, 2)
    sequence = Backbone((6, 3), n_class_tokens=1, layout="sequence")
    assert sequence.shapes == {"pooled": (3,), "tokens": (6, 3)}
    assert sequence.n_prefix_tokens == 1


def test_a_count_that_was_given_is_kept_to():
    with pytest.raises(InputError, match="has 4 tokens, of which 3 are left without the 1 taken for prefix"):
        _ = Backbone((4, 3), n_prefix_tokens=1).shapes


def test_a_network_that_cannot_read_the_image_says_so():
    backbone = Backbone((4, 3))
    backbone.network = nn.Sequential(nn.Flatten(), nn.Linear(7, 7))
    with pytest.raises(InputError, match=r"net cannot read an image of 3 x 8 x 8 \(mat1 and mat2 .*backbone\.size"):
        _ = backbone.kinds
