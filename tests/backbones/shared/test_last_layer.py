"""Pooled features that are the logits of a classifier are told, with the layer to read instead."""

import pytest
import timm
import torch

from probe.backbones.module import ModuleBackbone

VIT = {"image_size": 32, "patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 24, "mlp_dim": 32}


@pytest.mark.parametrize(
    ("target", "kwargs", "size", "last", "before"),
    [
        ("torchvision.models:resnet18", {}, 32, "fc", "avgpool"),
        ("torchvision.models:mobilenet_v3_small", {}, 32, "classifier", "avgpool"),
        ("torchvision.models:squeezenet1_1", {}, 32, "classifier", "features"),
        ("torchvision.models:VisionTransformer", VIT, 32, "heads", "encoder:cls"),
        ("timm:create_model", {"model_name": "test_vit", "num_classes": 10}, 160, "head", "head_drop"),
        ("timm:create_model", {"model_name": "test_resnet", "num_classes": 10}, 64, "fc", "global_pool"),
    ],
)
def test_the_layer_before_a_classifier_is_named_and_can_be_tapped(target, kwargs, size, last, before):
    backbone = ModuleBackbone(target, kwargs, size=size)
    note = backbone.notes["pooled"]
    assert f"is what its last layer {last} gives, {backbone.shapes['pooled'][0]} numbers, which are logits" in note
    assert note.endswith(
        f"the layer before is {before}: set backbone.taps=[{before}] reads.pooled={before} to read that"
    )
    tapped = ModuleBackbone(target, kwargs, size=size, taps=[before])
    assert tapped.shapes[before] != backbone.shapes["pooled"]


def test_what_the_tap_gives_is_what_the_classifier_reads():
    backbone = ModuleBackbone("torchvision.models:resnet18", size=32, taps=["avgpool"])
    given = backbone.extract(torch.rand(3, 3, 32, 32), ["pooled", "avgpool"])
    torch.testing.assert_close(backbone.network.fc(given["avgpool"]), given["pooled"])


@pytest.mark.parametrize(
    "kwargs", [{"model_name": "test_vit", "num_classes": 0}, {"model_name": "test_resnet", "num_classes": 0}]
)
def test_a_network_without_classifier_has_nothing_to_tell(kwargs):
    assert ModuleBackbone("timm:create_model", kwargs, size=160).notes == {}


def test_looking_leaves_identity_and_features_as_they_are():
    backbone = ModuleBackbone("torchvision.models:resnet18", size=32, taps=["layer1"])
    fresh = ModuleBackbone("torchvision.models:resnet18", size=32, taps=["layer1"])
    assert backbone.notes
    assert backbone.identity() == fresh.identity()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.network.modules())


@pytest.mark.parametrize(("n_classes", "told"), [(10, True), (0, False)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_saved_classifier_is_told_too(tmp_path, n_classes, told):
    network = timm.create_model("test_resnet", num_classes=n_classes).eval()
    torch.jit.trace(network, torch.zeros(1, 3, 32, 32)).save(tmp_path / "net.pt")
    notes = ModuleBackbone(str(tmp_path / "net.pt"), size=32, trust=True).notes
    assert bool(notes) == told
    assert not told or "last layer fc gives, 10 numbers" in notes["pooled"]
