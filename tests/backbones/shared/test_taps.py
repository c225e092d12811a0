"""Taps on real vision transformers: the last blocks together, and one vector per attention head."""

import json

import open_clip
import pytest
import torch

from probe.backbones.open_clip import OpenClipBackbone
from probe.backbones.timm import TimmBackbone
from probe.backbones.tiny import TinyBackbone
from probe.core.errors import InputError


def vit(*taps, name="test_vit", **options):
    return TimmBackbone(name, pretrained=False, img_size=32, taps=taps, **options)


@pytest.fixture
def batch():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["test_vit", "test_vit3"])
def test_last_blocks_are_the_feature_sets_of_dinov2(name, batch):
    taps = ["last3", "last3:cls+mean", "last3:mean", "last1"]
    backbone = vit(*taps, name=name)
    n = backbone.n_prefix_tokens
    given = backbone.extract(batch, taps)
    with torch.no_grad():
        layers = backbone.network.get_intermediate_layers(batch, n=3, norm=True, return_prefix_tokens=True)
    cls = [prefix[:, 0] for _, prefix in layers]
    means = [patches.mean(1) for patches, _ in layers]
    assert n >= 1
    torch.testing.assert_close(given["last3"], torch.cat(cls, 1))
    torch.testing.assert_close(given["last3:cls+mean"], torch.cat([*cls, means[-1]], 1))
    torch.testing.assert_close(given["last3:mean"], torch.cat(means, 1))
    torch.testing.assert_close(given["last1"], cls[-1])


def test_last_block_of_open_clip_is_its_pooled_feature_before_the_projection(tmp_path, batch):
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    (tmp_path / "probe-test-taps.json").write_text(
        json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text})
    )
    open_clip.add_model_config(tmp_path)
    backbone = OpenClipBackbone("probe-test-taps", pretrained=None, projection=False, taps=["last1", "last2"])
    given = backbone.extract(batch, ["pooled", "last1", "last2"])
    torch.testing.assert_close(given["last1"], given["pooled"])
    assert given["last2"].shape == (3, 64)
    torch.testing.assert_close(given["last2"][:, 32:], given["pooled"])


def test_attention_heads_are_what_the_projection_mixes(batch):
    backbone = vit("blocks.*.attn:heads", "blocks.2.attn:cls")
    given = backbone.extract(batch, ["blocks.2.attn:heads", "blocks.2.attn:cls"])
    assert [tap for tap in backbone.taps if tap.endswith(":heads")] == [f"blocks.{i}.attn:heads" for i in range(6)]
    assert given["blocks.2.attn:heads"].shape == (3, 2, 32)
    with torch.no_grad():
        mixed = backbone.network.blocks[2].attn.proj(given["blocks.2.attn:heads"].flatten(1))
    torch.testing.assert_close(mixed, given["blocks.2.attn:cls"])


def test_taps_leave_the_network_as_it_was(batch):
    backbone = vit("last2", "blocks.0.attn:heads", "blocks.1")
    plain = vit().extract(batch, ["pooled"])["pooled"]
    before = backbone.hash_weights()
    assert torch.equal(backbone.extract(batch, backbone.kinds)["pooled"], plain)
    assert backbone.hash_weights() == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.network.modules())


@pytest.mark.parametrize(
    ("tap", "text"),
    [
        ("last7", r"tap last7 asks for 7 blocks, backbone timm/test_vit-random has 6"),
        ("last0", r"asks for 0 blocks"),
        ("last2:max", r"asks for 'max', expected one of cls, mean, cls\+mean"),
    ],
)
def test_impossible_last_blocks_are_refused(tap, text):
    with pytest.raises(InputError, match=text):
        vit(tap)


def test_networks_without_blocks_or_class_token_are_refused():
    with pytest.raises(InputError, match="needs transformer blocks"):
        TimmBackbone("resnet10t", pretrained=False, taps=["last2"])
    with pytest.raises(InputError, match="no prefix tokens, expected a class token: ask for :mean"):
        _ = vit("last2", model_kwargs={"class_token": False, "reg_tokens": 0, "global_pool": "avg"}).shapes


def test_layers_before_the_class_token_joins_have_none(batch):
    taps = ["blocks.1", "blocks.1:tokens", "blocks.1.attn:heads", "last2:mean"]
    backbone = TimmBackbone("xcit_nano_12_p8_224", pretrained=False, img_size=32, taps=taps)
    given = backbone.extract(batch, [*taps, "tokens"])
    assert (given["tokens"].shape[1], given["blocks.1:tokens"].shape[1]) == (17, 16)
    torch.testing.assert_close(given["blocks.1"], given["blocks.1:tokens"].mean(1))
    assert given["blocks.1.attn:heads"].shape == (3, 4, 32)
    for tap in ("blocks.1:cls", "last2"):
        with pytest.raises(InputError, match="no prefix tokens"):
            _ = TimmBackbone("xcit_nano_12_p8_224", pretrained=False, img_size=32, taps=[tap]).shapes


def test_a_new_way_of_reading_layers_makes_new_features(monkeypatch):
    backbone = TinyBackbone(pretrained=False)
    before = backbone.identity()
    monkeypatch.setattr("probe.backbones.shared.network.READING", "another")
    assert backbone.identity() != before
