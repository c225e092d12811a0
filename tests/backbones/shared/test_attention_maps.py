"""Attention weights: rows sum to 1, weights times values are the heads, and reading them changes nothing else."""

from types import SimpleNamespace

import pytest
import torch
from language_models import save
from torch import nn
from vision_transformers import VITS, open_clip_vit, positions_of, timm_vit

from probe.backbones.shared.attention_maps import patterns_of
from probe.backbones.shared.families import blocks_of
from probe.backbones.shared.huggingface_text import HuggingFaceTexts
from probe.backbones.timm import TimmBackbone
from probe.core.errors import InputError


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "bert", "gpt2"])
def test_attention_weights_times_values_are_the_heads(tmp_path, family):
    save(tmp_path / family, family)
    taps = ["blocks.1:attn", "blocks.1:attn:last", "blocks.1:heads:last"]
    options = {"attention": "eager", "max_length": 12, "pooling": "last"}
    backbone = HuggingFaceTexts(str(tmp_path / family), taps=taps, **options)
    config = backbone.network.config
    H = config.num_attention_heads
    attention = blocks_of(backbone.network)
    block = backbone.network.get_submodule(attention.paths[1])
    values = {}

    def keep(joint):
        if family == "gpt_neox":  # interleaved by head
            return joint.unflatten(-1, (H, 3, -1))[..., 2, :]
        return joint.unflatten(-1, (3, H, -1))[..., 2, :, :] if family == "gpt2" else joint

    where = {
        "llama": "self_attn.v_proj", "bert": "attention.self.value", "gpt2": "attn.c_attn",
        "gpt_neox": "attention.query_key_value",
    }[family]  # fmt: skip
    block.get_submodule(where).register_forward_hook(lambda m, i, output: values.update(v=keep(output)))
    row = backbone.transform("the cat sat on a mat")
    given = backbone.extract(backbone.collate([row]), backbone.taps)
    v, n = values["v"], len(row["input_ids"])
    if family in ("llama", "bert"):
        shared = getattr(config, "num_key_value_heads", H)
        v = v.unflatten(-1, (shared, -1)).repeat_interleave(H // shared, dim=2)
    patterns = given["blocks.1:attn"]
    assert patterns.shape == (1, H, 12, 12)
    assert not patterns[:, :, n:].any()
    torch.testing.assert_close(given["blocks.1:attn:last"], patterns[:, :, n - 1])
    torch.testing.assert_close(patterns[..., :n, :].sum(-1), torch.ones(1, H, n))
    expected = torch.einsum("ht,thd->hd", patterns[0, :, n - 1, :n], v[0])
    torch.testing.assert_close(given["blocks.1:heads:last"][0], expected, rtol=1e-4, atol=1e-5)


def assert_weights_times_values(given, values, position, n_prefix):
    patterns = given["blocks.1:attn"]
    torch.testing.assert_close(patterns.sum(-1), torch.ones_like(patterns[..., 0]))
    assert patterns.std(-1).min() > 1e-4
    rows = patterns[:, :, 0] if position == "cls" else patterns[:, :, n_prefix:].mean(2)
    torch.testing.assert_close(given[f"blocks.1:attn:{position}"], rows)
    expected = torch.einsum("nht,nhtd->nhd", rows, values)
    torch.testing.assert_close(given[f"blocks.1:heads:{position}"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", VITS)
def test_the_same_holds_of_timms_vision_transformers_and_nothing_else_moves(name, monkeypatch):
    others = [f"blocks.1:{part}" for p in positions_of(name) for part in (f"heads:{p}", f"contribution:{p}", p)]
    taps = ["blocks.1:attn", *(f"blocks.1:attn:{p}" for p in positions_of(name)), *others]
    backbone, images = timm_vit(name, taps)
    plain = backbone.extract(images, [*others, "pooled"])
    fused, values = nn.functional.scaled_dot_product_attention, []

    def listening(q, k, v, **options):
        values.append(v)
        return fused(q, k, v, **options)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", listening)
    given = backbone.extract(images, [*taps, "pooled"])
    assert len(values) >= 2  # a pooling by attention besides
    for position in positions_of(name):
        assert_weights_times_values(given, values[1], position, backbone.n_prefix_tokens)
    assert all(torch.equal(plain[kind], given[kind]) for kind in plain)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.network.modules())


def test_the_same_holds_of_open_clips(tmp_path):
    taps = ["blocks.1:attn", "blocks.1:attn:cls", "blocks.1:heads:cls", "blocks.1:neurons:cls"]
    backbone, images = open_clip_vit(tmp_path, taps)
    attention, seen = backbone.network.transformer.resblocks[1].attn, []
    attention.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    given = backbone.extract(images, taps)
    v = nn.functional.linear(seen[-1], attention.in_proj_weight[64:], attention.in_proj_bias[64:])
    assert_weights_times_values(given, v.unflatten(-1, (2, 16)).transpose(1, 2), "cls", 1)
    assert backbone.shapes["blocks.1:neurons:cls"] == (128,)


def test_attention_weights_want_short_texts_and_eager_attention(tmp_path):
    folder = str(save(tmp_path / "llama", "llama"))
    with pytest.raises(InputError, match=r"the network gives none: set backbone\.attention=eager"):
        _ = HuggingFaceTexts(folder, taps=["blocks.0:attn"], max_length=8, attention="sdpa").shapes
    with pytest.raises(InputError, match=r"expected texts of at most 64 tokens: set backbone\.max_length=64 or less"):
        patterns_of(None, ((), {}, ()), SimpleNamespace(reads="texts", max_length=65), "blocks.0:attn")
    with pytest.raises(InputError, match=r"attention is 'flash', expected eager or sdpa: set backbone\.attention so"):
        HuggingFaceTexts(folder, attention="flash")
    eager, plain = (HuggingFaceTexts(folder, attention=kind) for kind in ("eager", None))
    assert eager.identity() != plain.identity()


def test_images_of_many_tokens_and_layers_that_show_no_weights_are_refused():
    with pytest.raises(InputError, match=r"of 401 tokens of backbone .*expected at most 300: choose smaller images"):
        _ = timm_vit("vit_tiny_patch16_224", ["blocks.0:attn"], img_size=320)[0].shapes
    backbone, _ = timm_vit("vit_tiny_patch16_224", ["blocks.0:attn"])
    del backbone.network.blocks[0].attn.attn_drop
    with pytest.raises(
        InputError, match=r"weights, which Attention of backbone .* does not show: tap :heads, :contrib"
    ):
        _ = backbone.shapes
    with pytest.raises(InputError, match=r"tap blocks\.0:attn asks for attn, backbone .* is of no family in which"):
        TimmBackbone("xcit_nano_12_p16_224", pretrained=False, taps=["blocks.0:attn"])
