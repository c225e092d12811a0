"""A small random model of every family of timm (one per module of it) keeps the contract."""

import pytest
import timm
import torch

from probe.backbones.timm import TimmBackbone

_QUICK = """
    test_byobnet test_convnext test_vit test_mambaout test_coatnet levit_128 pit_ti_224 crossvit_tiny_240
    xcit_nano_12_p8_224 mobilenetv3_small_050
"""
_SLOW = """
    eca_botnext26ts_256 cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 cpubone_nano csatv2 cs3darknet_focus_s
    cspnext_tiny davit_tiny deit_tiny_patch16_224 densenet121 dla60x_c dpn48b edgenext_xx_small efficientformer_l1
    efficientformerv2_s0 test_efficientnet efficientvim_m1 efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224
    fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny ghostnet_050 hardcorenas_b hgnetv2_b0 hiera_tiny_224
    hieradet_small hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3 inception_v4
    lcnetv2_small lowformer_b0 poolformer_s12 gmixer_12_224 mobilevit_xxs mvitv2_tiny nest_tiny nextvit_small
    test_nfnet pvt_v2_b0 rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 res2net50_26w_4s resnest26d test_resnet
    resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s050
    swiftformer_xs swin_tiny_patch4_window7_224 swinv2_tiny_window16_256 swinv2_cr_tiny_224 tiny_vit_5m_224
    tnt_s_legacy_patch16_224 tresnet_m twins_svt_small visformer_tiny vit_tiny_r_s16_p8_224 test_vit_relpos
    vitamin_small_224 volo_d1_224 ese_vovnet19b_slim_dw legacy_xception xception41p
"""
# Left out for their size, beyond 60 M parameters in the smallest model:
# beit, deepseek_vit, gemma4_vit, mobilenetv5, naflexvit, nasnet, pnasnet, qwen3_vit, vgg, vision_transformer_sam.
QUICK, SLOW = _QUICK.split(), _SLOW.split()

MODELS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.mark.parametrize(("name", "rounding"), [("test_resnet", 1e-6), ("test_efficientnet", 1e-6), ("test_vit", 0)])
def test_the_order_in_memory_moves_features_by_rounding_alone(name, rounding):
    backbone, plain = TimmBackbone(name, pretrained=False), TimmBackbone(name, pretrained=False)
    plain.network.to(memory_format=torch.contiguous_format)
    plain._layout = torch.contiguous_format
    batch = torch.randn(2, 3, *backbone.image_size, generator=torch.Generator().manual_seed(0))
    given, expected = backbone.extract(batch, backbone.kinds), plain.extract(batch, backbone.kinds)
    assert (backbone._layout == torch.channels_last) == (rounding > 0)
    assert backbone.identity() == plain.identity()
    for kind, value in given.items():
        assert value.is_contiguous()
        assert (value - expected[kind]).norm() <= rounding * expected[kind].norm()


def test_at_least_forty_families_are_covered():
    modules = {timm.models.model_entrypoint(name).__module__ for name in (*QUICK, *SLOW)}
    assert len(modules) == len(QUICK) + len(SLOW) >= 40


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_forward_features_and_forward_head(name):
    backbone = TimmBackbone(name, pretrained=False)
    batch = torch.randn(2, 3, *backbone.image_size, generator=torch.Generator().manual_seed(0))
    before = backbone.hash_weights()
    given = backbone.extract(batch, backbone.kinds)
    with torch.no_grad():
        output = backbone.network.forward_features(batch.to(memory_format=backbone._layout))
        pooled = backbone.network.forward_head(output, pre_logits=True)
    assert backbone.hash_weights() == before
    assert {kind: tuple(value.shape[1:]) for kind, value in given.items()} == backbone.shapes
    assert all(value.isfinite().all() for value in given.values())
    assert given["pooled"].ndim == 2
    assert torch.equal(given["pooled"], pooled.flatten(1))
    if not isinstance(output, torch.Tensor):
        assert tuple(given) == ("pooled",)
        return
    assert given["tokens"].shape[-1] == backbone.network.num_features
    last = output.movedim(1, -1) if output.ndim == 4 and not backbone._channels_last else output
    assert torch.equal(given["tokens"], last.flatten(1, -2))
    if "map" in given:
        patches = given["tokens"][:, backbone.n_prefix_tokens :]
        assert torch.equal(given["map"].flatten(2).transpose(1, 2), patches)
        assert given["map"].shape[-1] > 1
    else:
        assert given["tokens"].shape[1] == backbone.n_prefix_tokens
