from collections import OrderedDict

import pytest
import torch
from torch import nn

from probe.backbones.shared.image_network import ImageNetwork
from probe.backbones.shared.outputs import map_kinds, token_kinds
from probe.core.errors import InputError


class Attention(nn.Module):
    """Two heads of three numbers each; mixes heads in `proj`."""

    def __init__(self):
        super().__init__()
        self.num_heads = 2
        self.proj = nn.Linear(6, 6)

    def forward(self, x):
        return self.proj(x)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 2, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.blocks = nn.ModuleList(nn.Sequential(OrderedDict(attn=Attention())) for _ in range(3))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        tokens = self.drop(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class Backbone(ImageNetwork):
    def __init__(self, **options):
        torch.manual_seed(0)
        super().__init__(Network(), name="net", image_size=(4, 4), **options)

    def transform(self, row):
        return torch.zeros(3, 4, 4)

    def _features(self, batch):
        tokens = self.network(batch)
        return {"pooled": tokens.mean(1), **token_kinds(tokens, self.n_prefix_tokens, None)}

    def _architecture(self):
        return {"family": "net"}

    def _preprocessing(self):
        return {"size": [4, 4]}


@pytest.fixture
def batch():
    return torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_network_is_frozen(batch):
    backbone = Backbone(taps=["blocks.1", "blocks.*.attn:heads"])
    before = backbone.hash_weights()
    first = backbone.extract(batch, backbone.kinds)
    second = backbone.extract(batch, backbone.kinds)
    assert backbone.hash_weights() == before
    assert not any(value.requires_grad for value in first.values())
    assert all(torch.equal(first[kind], second[kind]) for kind in first)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.network.modules())


def test_a_buffer_that_the_first_image_fills_does_not_change_the_identity(batch):
    class Lazy(Network):
        def __init__(self):
            super().__init__()
            self.register_buffer("grid", torch.zeros(1), persistent=False)

        def forward(self, x):
            self.grid = torch.arange(float(x.shape[-1]))
            return super().forward(x)

    backbone = Backbone()
    backbone.network = Lazy().eval().requires_grad_(False)
    before = backbone.hash_weights()
    backbone.extract(batch, ["pooled"])
    assert backbone.hash_weights() == before


def test_taps_equal_the_layers_run_by_hand(batch):
    backbone = Backbone(taps=["blocks.0", "conv", "conv:tokens", "blocks.2.attn:heads"], n_prefix_tokens=1)
    given = backbone.extract(batch, ["blocks.0", "conv", "conv:tokens", "blocks.2.attn:heads", "pooled"])
    net = backbone.network
    with torch.no_grad():
        conv = net.conv(batch)
        tokens = net.norm(conv).flatten(2).transpose(1, 2)
        first = net.blocks[0](tokens)
        before_mixing = net.blocks[1](first)
    torch.testing.assert_close(given["conv"], conv.mean((2, 3)))
    torch.testing.assert_close(given["conv:tokens"], conv.flatten(2).transpose(1, 2))
    torch.testing.assert_close(given["blocks.0"], first[:, 1:].mean(1))
    torch.testing.assert_close(given["blocks.2.attn:heads"], before_mixing[:, 0].reshape(5, 2, 3))
    torch.testing.assert_close(
        Backbone(taps=["blocks.0:cls"], n_prefix_tokens=1).extract(batch, ["blocks.0:cls"])["blocks.0:cls"], first[:, 0]
    )


def test_stars_stand_for_one_part_of_a_name_in_the_order_of_the_network():
    backbone = Backbone(taps=["blocks.*", "blocks.1"])
    assert backbone.kinds == ("pooled", "tokens", "blocks.0", "blocks.1", "blocks.2")


def test_shapes_are_those_of_the_features(batch):
    backbone = Backbone(taps=["blocks.*.attn:heads", "conv:tokens"])
    features = backbone.extract(batch, backbone.kinds)
    assert {kind: tuple(value.shape[1:]) for kind, value in features.items()} == backbone.shapes


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"taps": ["blocks.9"]}, r"tap blocks\.9 counts beyond the 3 blocks of backbone net: count from 0"),
        ({"taps": ["conv:max"]}, "'max', expected one of mean, cls, tokens, map, heads"),
        ({"precision": "int8"}, "precision is 'int8', expected one of float32, bfloat16"),
        ({"taps": ["conv:cls"]}, "no prefix tokens there: use :mean"),
        ({"taps": ["conv:heads"]}, "conv is a Conv2d without num_heads and proj"),
        ({"taps": ["unused"]}, r"layers \['unused'\] of backbone net are never run"),
        ({"taps": ["pooled", "map"]}, r"taps \['map'\] are not given by backbone net"),
    ],
)
def test_impossible_options_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        _ = Backbone(**options).shapes


def test_unknown_kinds_are_refused_with_those_there_are(batch):
    with pytest.raises(InputError, match=r"gives \['pooled', 'tokens'\], not \['map'\].*backbone.taps"):
        Backbone().extract(batch, ["map"])


def test_identity_sees_weights_and_precision_but_not_taps_or_device():
    plain, tapped, narrow = Backbone(), Backbone(taps=["conv"]), Backbone(precision="bfloat16")
    changed = Backbone()
    with torch.no_grad():
        changed.network.norm.running_mean[0] += 1e-6
    assert plain.identity() == tapped.identity() == plain.to("cpu").identity()
    assert len({str(b.identity()) for b in (plain, narrow, changed)}) == 3


def test_bfloat16_gives_float32_near_the_full_precision(batch):
    full, narrow = (Backbone(precision=p).extract(batch, ["pooled"])["pooled"] for p in ("float32", "bfloat16"))
    assert narrow.dtype == torch.float32
    assert not torch.equal(full, narrow)
    torch.testing.assert_close(full, narrow, rtol=0.05, atol=0.05)


def test_tokens_and_map_hold_the_same_positions():
    feature_map = torch.arange(2 * 3 * 2 * 4.0).reshape(2, 3, 2, 4)
    kinds = map_kinds(feature_map)
    torch.testing.assert_close(kinds["tokens"][:, 1 * 4 + 2], feature_map[:, :, 1, 2])
    again = token_kinds(torch.cat([torch.zeros(2, 1, 3), kinds["tokens"]], 1), 1, (2, 4))
    assert torch.equal(again["map"], feature_map)
    assert "map" not in token_kinds(kinds["tokens"], 0, (3, 3))


class Windows(Network):
    """Runs its first block on quarters of the image."""

    def forward(self, x):
        tokens = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        return self.blocks[0](tokens.reshape(-1, 1, 6)).reshape(tokens.shape)


def test_layers_that_look_at_windows_are_refused(batch):
    backbone = Backbone(taps=["blocks.0.attn:heads"])
    backbone.network = Windows().eval().requires_grad_(False)
    with pytest.raises(InputError, match=r"blocks\.0\.attn:heads.* give 4 rows for 1, expected one each"):
        _ = backbone.shapes
