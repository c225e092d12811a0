"""Identities that name entries on people's disks: a change here makes everyone extract again."""

import sys

import pytest
import torch

from probe.backbones.huggingface import HuggingFaceBackbone
from probe.backbones.identity import IdentityBackbone
from probe.backbones.module import ModuleBackbone
from probe.backbones.open_clip import OpenClipBackbone
from probe.backbones.shared.views import MultiView
from probe.backbones.timm import TimmBackbone
from probe.backbones.tiny import TinyBackbone
from probe.core.base import digest
from probe.datasets.sklearn import load
from probe.features.layout import entry_digest, entry_identity

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


SOURCE = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, stride=4)

    def forward(self, images):
        return self.conv(images)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe_test_net.py").write_text(SOURCE)
    yield lambda **options: ModuleBackbone("probe_test_net:Net", size=8, **options)
    sys.modules.pop("probe_test_net", None)


def saved(folder, model):
    import transformers

    small = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    grid = {"image_size": 32, "patch_size": 8}
    if model == "vit":
        network = transformers.ViTModel(transformers.ViTConfig(**small, **grid))
    elif model == "dinov2":
        config = transformers.Dinov2WithRegistersConfig(**small, **grid, num_register_tokens=3)
        network = transformers.Dinov2WithRegistersModel(config)
    else:
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        network = transformers.ResNetModel(config)
    network.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return HuggingFaceBackbone(str(folder))


def digest_of(backbone):
    """Of what this package says: weights, code and configurations of others come and go with their versions."""
    identity = backbone.identity()
    architecture = identity["architecture"]
    return digest({**identity, "weights": "", "architecture": {**architecture, "code": "", "config": {}}})


TIMM = {
    "test_vit": "17c900c2c068d5b74b093dacff424c4d",
    "test_resnet": "45a072f6e86ca092bbf3274ec7ff51c1",
    "deit_tiny_distilled_patch16_224": "8e99f274bd68c302aa74a1b5bc0539a9",
    "vit_tiny_patch16_224": "7285227ffa9352a86b9e5ff8b1c271cb",
}


@pytest.mark.parametrize(("name", "expected"), TIMM.items())
def test_models_of_timm_keep_their_identity(name, expected):
    assert digest_of(TimmBackbone(name, pretrained=False)) == expected


def test_a_model_of_timm_with_options_keeps_its_identity():
    backbone = TimmBackbone("vit_tiny_patch16_224", pretrained=False, img_size=64, pool="avg", taps=["blocks.1"])
    assert digest_of(backbone) == "c26defad8bb0e828ecc54fb329cdb4fc"


def test_the_embedded_backbone_keeps_its_identity_weights_included():
    assert digest(TinyBackbone().identity()) == "3196425f817bbb09f136485a918c8f79"
    assert digest(TinyBackbone(precision="bfloat16").identity()) == "f5d9b7a9bc05bef3847d78023e0f2445"
    assert digest(MultiView(TinyBackbone(), n=3, seed=1).identity()) == "4a39408f5c8d0a3976632f57097a5ab8"


def test_rows_as_they_are_keep_their_identity():
    assert digest(IdentityBackbone().identity()) == "4783441fd6db548aa230e837bfe0cd82"


def test_both_towers_of_open_clip_keep_their_identity():
    backbone = OpenClipBackbone("ViT-S-32-alt", pretrained=None)
    assert digest_of(backbone) == "43a73ec9b22e55f01a3336a19aadf8c4"
    assert digest_of(backbone.text) == "ed8a53e8eafa73aeed64e359c4548dc0"


def test_a_network_of_ones_own_keeps_its_identity(own):
    assert digest_of(own()) == "7f10c4f195793e5a90cca1a7b7dbc5b7"
    assert digest_of(own(mean=[0, 0, 0], std=[1, 1, 1], interpolation="bilinear")) == "c3d5619a645d6c07ef8ab387584281ed"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("vit", "9fa0235f97c0d09b625b8ad848f6c0ba"),
        ("dinov2", "027ad45273b66211bf3b99e64656343b"),
        ("resnet", "f521804e8e786655b2c4c094e3ac8739"),
    ],
)
def test_models_of_transformers_keep_their_identity(tmp_path, model, expected):
    assert digest_of(saved(tmp_path, model)) == expected


def test_entries_keep_their_names():
    digits, vectors = load("digits"), load("breast_cancer")
    found = [
        entry_digest(entry_identity(backbone, dataset, part))
        for backbone, dataset in ((TinyBackbone(), digits), (IdentityBackbone(), vectors))
        for part in ("train", "test")
    ]
    assert found == [
        "2310c0726585abb10c63536dabf0a6a5",
        "a12a2f370a426290ddef811e43135c20",
        "c443450589ecdb7f0513db0fe0d085d4",
        "5607722500ddac348909d94ba02d2c99",
    ]


def test_weights_enter_as_names_and_numbers(own):
    backbone = own()
    with torch.no_grad():
        for i, weight in enumerate(backbone.network.parameters()):
            weight.fill_(i)
    assert backbone.hash_weights() == "a3a636bcf1a65a7d31e1dfe1190a8536"
