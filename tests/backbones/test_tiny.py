import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

from probe.backbones import tiny
from probe.backbones.shared.checkpoints import load_checkpoint
from probe.backbones.shared.tiny_network import MEAN, STAGES, STD, build_network
from probe.backbones.tiny import WEIGHTS, TinyBackbone
from probe.core.errors import InputError


@pytest.fixture
def weights(tmp_path):
    """Random weights in the form that the recipe writes."""
    torch.manual_seed(3)
    state = build_network().state_dict()
    half = {k: v.half() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    save_file(half, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def normalised(image):
    return torch.from_numpy((np.asarray(image, np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)).permute(2, 0, 1)


def test_shapes_and_name():
    backbone = TinyBackbone(pretrained=False)
    assert backbone.name == "tiny-random"
    assert backbone.shapes == {"pooled": (512,), "tokens": (16, 512), "map": (512, 4, 4)}


def test_pooled_is_the_mean_of_the_map(image):
    backbone = TinyBackbone(pretrained=False)
    features = backbone.extract(backbone.transform(image)[None], ["pooled", "tokens", "map"])
    torch.testing.assert_close(features["pooled"], features["map"].mean((2, 3)))
    torch.testing.assert_close(features["pooled"], features["tokens"].mean(1))


def stock_network():
    stages = tuple(ByoBlockCfg("basic", d=1, c=width, s=stride) for width, stride in STAGES)
    config = ByoModelCfg(blocks=stages, stem_chs=32, stem_type="3x3", stem_pool="", num_features=512)
    return ByobNet(config, num_classes=0)


def outputs(network, batch):
    """What every layer gives for a batch; ReLU works in place, so each is copied."""
    given = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: given.__setitem__(name, output.clone()))
    with torch.no_grad():
        network(batch)
    return given


def test_the_network_is_timm_s_layer_by_layer_to_the_bit():
    networks = []
    for make in (stock_network, build_network):
        torch.manual_seed(3)
        networks.append(make().eval())
    stock, own = networks
    assert {k: v.tolist() for k, v in own.state_dict().items()} == {
        k: v.tolist() for k, v in stock.state_dict().items()
    }
    load_checkpoint(stock, str(WEIGHTS), None, True)
    load_checkpoint(own, str(WEIGHTS), None, True)
    batch = torch.randn(5, 3, 32, 32)
    expected, given = outputs(stock, batch), outputs(own, batch)
    shared = given.keys() & expected.keys()
    assert len(shared) > 40
    assert not [name for name in shared if not torch.equal(given[name], expected[name])]


def test_nothing_but_torch_is_imported_for_it():
    code = "import sys, probe.backbones.tiny as t; t.TinyBackbone(); print({'timm', 'torchvision'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_checkpoint_in_half_precision_gives_the_network_of_that_file(weights, image):
    backbone = TinyBackbone(checkpoint=str(weights))
    network = build_network().eval()
    network.load_state_dict({k: v.float() for k, v in load_file(weights).items()}, strict=False)
    pooled = backbone.extract(backbone.transform(image)[None], ["pooled"])["pooled"]
    with torch.no_grad():
        torch.testing.assert_close(pooled, network(normalised(image)[None]))
    assert backbone.name == "tiny:mine"


def test_misfitting_checkpoint_is_refused_and_strict_false_records_it(weights):
    state = load_file(weights)
    key = next(key for key in state if key.endswith("weight"))
    save_file({k: v for k, v in state.items() if k != key} | {"extra": torch.zeros(1)}, weights)
    with pytest.raises(InputError, match=r"1 missing keys \(.*; 1 unexpected keys \(extra\)"):
        TinyBackbone(checkpoint=str(weights))
    facts = TinyBackbone(checkpoint=str(weights), strict=False).identity()["architecture"]
    assert facts["misfits"] == {"missing": [key], "unexpected": ["extra"]}


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    one, two, other = (TinyBackbone(pretrained=False, seed=seed).hash_weights() for seed in (0, 0, 1))
    assert one == two != other
    assert torch.equal(torch.get_rng_state(), state)


def test_images_travel_as_bytes_and_are_normalised_with_the_training_statistics(image, monkeypatch):
    backbone, seen = TinyBackbone(pretrained=False), []
    features = backbone._features
    monkeypatch.setattr(backbone, "_features", lambda batch: seen.append(batch) or features(batch))
    pixels = backbone.transform(image)
    backbone.extract(pixels[None], ["pooled"])
    np.testing.assert_array_equal(pixels.permute(1, 2, 0), np.asarray(image))
    assert torch.equal(seen[-1], normalised(image)[None])


@pytest.mark.parametrize("size", [(8, 8), (500, 375), (1, 1), (32, 33)])
def test_any_size_becomes_32_by_32(size):
    assert TinyBackbone(pretrained=False).transform(Image.new("L", size)).shape == (3, 32, 32)


def test_missing_weights_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(tiny, "WEIGHTS", tmp_path / "tiny.safetensors")
    with pytest.raises(InputError, match=r"tiny\.safetensors is no file"):
        TinyBackbone()


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the embedded weights are not there yet")
def test_embedded_weights_are_small_and_load():
    assert WEIGHTS.stat().st_size <= 3_000_000
    backbone = TinyBackbone()
    assert backbone.name == "tiny"
    assert backbone.hash_weights() != TinyBackbone(pretrained=False).hash_weights()


def contract_case():
    return {} if WEIGHTS.exists() else {"pretrained": False}
