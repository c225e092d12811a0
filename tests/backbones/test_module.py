import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from probe.backbones.module import ModuleBackbone
from probe.core.errors import InputError
from probe.datasets.sklearn import load
from probe.features.store import FeatureStore

SOURCE = """
from collections import OrderedDict

import torch
from torch import nn


class ModelOutput(OrderedDict):
    pass


class Net(nn.Module):
    def __init__(self, form="map", width=6):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 4, stride=4)
        self.drop = nn.Dropout(0.9)
        self.norm = nn.BatchNorm2d(width)
        self.form = form

    def forward(self, x):
        grid = self.norm(self.drop(self.conv(x)))
        tokens = grid.flatten(2).transpose(1, 2)
        with_cls = torch.cat([tokens.sum(1, keepdim=True), tokens], 1)
        return {
            "map": grid,
            "tokens": tokens,
            "cls": with_cls,
            "pooled": grid.amax((2, 3)),
            "tuple": (grid, "aside"),
            "dict": {"pooled": grid.amax((2, 3)), "map": grid},
            "hf": ModelOutput(last_hidden_state=with_cls, pooler_output=grid.amax((2, 3))),
            "hf_map": ModelOutput(last_hidden_state=grid, pooler_output=grid.amax((2, 3), keepdim=True)),
            "odd": {"strange": grid},
            "text": "hello",
            "last": grid.permute(0, 2, 3, 1),
            "pyramid": [grid, grid[:, :, ::2, ::2]],
            "one": self.conv(x[:, :1].expand(-1, 3, -1, -1)),
        }[self.form]


def build(**kwargs):
    return Net(**kwargs)


class Dropping(Net):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.1, training=True)


class Training(Net):
    def train(self, mode=True):
        super().train(mode)
        self.norm.train()
        return self


def nothing():
    return 3


def halves(image):
    return torch.full((3, 8, 8), 0.5)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.delitem(__import__("sys").modules, "probe_test_nets", raising=False)
    (tmp_path / "probe_test_nets.py").write_text(SOURCE)
    yield tmp_path
    __import__("sys").modules.pop("probe_test_nets", None)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 12, 3), dtype=np.uint8))


def build(form="map", **options):
    return ModuleBackbone(**{"target": "probe_test_nets:build", "kwargs": {"form": form}, "size": 8, **options})


@pytest.mark.parametrize(
    ("form", "options", "shapes"),
    [
        ("map", {}, {"pooled": (6,), "tokens": (4, 6), "map": (6, 2, 2)}),
        ("tokens", {}, {"pooled": (6,), "tokens": (4, 6), "map": (6, 2, 2)}),
        ("cls", {"n_prefix_tokens": 1}, {"pooled": (6,), "tokens": (5, 6), "map": (6, 2, 2)}),
        ("pooled", {}, {"pooled": (6,)}),
        ("tuple", {}, {"pooled": (6,), "tokens": (4, 6), "map": (6, 2, 2)}),
        ("dict", {}, {"pooled": (6,), "tokens": (4, 6), "map": (6, 2, 2)}),
        ("dict", {"output": "pooled"}, {"pooled": (6,)}),
        ("hf", {"n_prefix_tokens": 1}, {"pooled": (6,), "tokens": (5, 6), "map": (6, 2, 2)}),
        ("hf_map", {}, {"pooled": (6,), "tokens": (4, 6), "map": (6, 2, 2)}),
        ("odd", {"output": "strange"}, {"pooled": (6,), "tokens": (4, 6), "map": (6, 2, 2)}),
    ],
)
def test_outputs_of_every_form_are_understood(home, form, options, shapes):
    assert build(form, **options).shapes == shapes


def test_pooled_is_the_networks_own_or_the_mean_without_prefix(home, image):
    batch = build().transform(image)[None]
    given = {
        form: build(form, n_prefix_tokens=int(form == "cls")).extract(batch, ["pooled"])["pooled"]
        for form in ("map", "cls", "dict")
    }
    grid = build().extract(batch, ["map"])["map"]
    torch.testing.assert_close(given["map"], grid.mean((2, 3)))
    torch.testing.assert_close(given["cls"], grid.mean((2, 3)))
    torch.testing.assert_close(given["dict"], grid.amax((2, 3)))


def test_network_is_frozen_and_in_eval_mode(home, image):
    backbone = build()
    batch, before = backbone.transform(image)[None], backbone.hash_weights()
    one, two = (backbone.extract(batch, ["pooled"])["pooled"] for _ in range(2))
    assert torch.equal(one, two)
    assert backbone.hash_weights() == before


def test_checkpoint_is_loaded(home, image):
    state = build(seed=5).network.state_dict()
    save_file(state, home / "mine.safetensors")
    backbone = build(checkpoint="mine.safetensors")
    assert torch.equal(backbone.network.conv.weight, state["conv.weight"])
    assert backbone.name == "module/probe_test_nets:build:mine"
    del state["conv.bias"]
    save_file(state, home / "less.safetensors")
    with pytest.raises(InputError, match=r"1 missing keys \(conv\.bias\)"):
        build(checkpoint="less.safetensors")


def test_torch_hub_is_used_with_trust_alone(home, image):
    (home / "hubconf.py").write_text(
        "from probe_test_nets import Net\n\ndef net(width=6):\n    return Net(width=width)\n"
    )
    kwargs = {"repo_or_dir": str(home), "model": "net", "source": "local", "width": 5}
    with pytest.raises(InputError, match=r"torch\.hub:load runs the code of .*: set backbone\.trust=true"):
        build(target="torch.hub:load", kwargs=kwargs)
    backbone = build(target="torch.hub:load", kwargs=kwargs, trust=True)
    assert backbone.shapes["map"] == (5, 2, 2)
    assert torch.equal(backbone.network.conv.weight, build(kwargs={"width": 5}).network.conv.weight)


def seen_by(backbone, batch):
    """What the network is given of a batch."""
    seen = []
    handle = backbone.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    backbone.extract(batch, ["pooled"])
    handle.remove()
    return seen[-1]


def test_images_travel_as_bytes_and_are_normalised_by_mean_and_std(home, image):
    mean, std = [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]
    backbone = build(mean=mean, std=std, size=7)
    pixels = backbone.transform(image)
    assert pixels.dtype == torch.uint8
    expected = (pixels.permute(1, 2, 0).numpy().astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    assert torch.equal(seen_by(backbone, pixels[None])[0], torch.from_numpy(expected).permute(2, 0, 1))


def test_own_transform_is_used_and_nothing_added_to_it(home, image):
    backbone = build(transform="probe_test_nets:halves")
    assert torch.equal(backbone.transform(image), torch.full((3, 8, 8), 0.5))
    assert torch.equal(seen_by(backbone, backbone.transform(image)[None]), torch.full((1, 3, 8, 8), 0.5))
    assert backbone.identity()["preprocessing"]["transform"] == "probe_test_nets:halves"


def test_identity_sees_weights_arguments_steps_and_an_edited_source(home):
    variants = [{}, {"seed": 1}, {"size": 16}, {"mean": [0, 0, 0]}, {"interpolation": "bilinear"}, {"form": "tokens"}]
    seen = {json.dumps(build(**v).identity(), sort_keys=True) for v in variants}
    (home / "probe_test_nets.py").write_text(SOURCE.replace("amax", "amin"))
    seen.add(json.dumps(build().identity(), sort_keys=True))
    assert len(seen) == len(variants) + 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target": None}, r"none is given: set backbone\.target"),
        ({"target": "probe_test_nets"}, "lacks a colon, expected package.module:name"),
        ({"target": "probe_test_nots:build"}, "probe_test_nots:build cannot be imported"),
        ({"target": "probe_test_nets:bild"}, "probe_test_nets:bild cannot be imported"),
        ({"kwargs": {"depth": 3}}, r"does not take kwargs {'depth': 3}"),
        ({"target": "probe_test_nets:nothing", "kwargs": None}, r"gives a int, expected a torch\.nn\.Module"),
        ({"interpolation": "cubic"}, "'cubic', expected one of bicubic, bilinear"),
        ({"std": [1, 1]}, r"std \[1, 1\], expected three numbers"),
    ],
)
def test_impossible_options_are_refused(home, options, text):
    with pytest.raises(InputError, match=text):
        build(**options)


@pytest.mark.parametrize(
    ("form", "output", "text"),
    [
        ("odd", None, "gives a dict with strange, expected a tensor"),
        ("text", None, "gives a str, expected a tensor"),
        ("odd", "other", "no output 'other', it gives a dict with strange"),
    ],
)
def test_outputs_without_features_are_refused(home, form, output, text):
    with pytest.raises(InputError, match=text):
        _ = build(form, output=output).kinds


def test_channels_last_is_seen_and_named_anew(home, image):
    first, last = build(), build("last")
    batch = first.transform(image)[None]
    given = last.extract(batch, last.kinds)
    assert all(torch.equal(value, first.extract(batch, [kind])[kind]) for kind, value in given.items())
    assert last.identity()["channels_last"] == {"output": True}
    assert "channels_last" not in first.identity()


def test_a_swin_transformer_of_torchvision_has_its_width():
    backbone = ModuleBackbone("torchvision.models:swin_t", size=64, taps=["features", "features.0.0"])
    assert backbone.shapes["features"] == (768,)
    assert backbone.shapes["features.0.0"] == (96,)
    assert backbone.identity()["channels_last"] == {"features": True}


def test_class_tokens_are_known_by_name_and_make_a_new_name_for_the_taps_concerned_alone():
    kwargs = {"image_size": 32, "patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 24, "mlp_dim": 32}

    def vit(**options):
        return ModuleBackbone("torchvision.models:VisionTransformer", kwargs, size=32, **options)

    tapped, plain = vit(taps=["encoder.ln", "encoder.ln:tokens"]), vit()
    given = tapped.extract(torch.rand(2, 3, 32, 32), tapped.taps)
    torch.testing.assert_close(given["encoder.ln"], given["encoder.ln:tokens"][:, 1:].mean(1))
    assert tapped.n_prefix_tokens == 1
    assert tapped.identity() == {**plain.identity(), "n_prefix_tokens": {"encoder.ln": 1, "encoder.ln:tokens": 1}}


def test_tokens_before_the_patches_are_part_of_the_identity(home):
    with pytest.raises(InputError, match=r"has 5 tokens, .*set backbone\.n_prefix_tokens"):
        _ = build("cls").shapes
    assert build("cls", n_prefix_tokens=1).identity()["n_prefix_tokens"] == {"output": 1}
    assert "n_prefix_tokens" not in build("map").identity()


def test_several_maps_are_asked_about(home):
    with pytest.raises(InputError, match=r"gives 2 maps, of which one is to be read: set backbone\.output=-1"):
        _ = build("pyramid").kinds
    assert build("pyramid", output=-1).shapes["map"] == (6, 1, 1)


def test_weights_of_half_precision_are_widened(home, image):
    (home / "probe_test_nets.py").write_text(SOURCE + "\n\ndef half():\n    return Net().half()\n")
    backbone = build(target="probe_test_nets:half", kwargs=None)
    assert {p.dtype for p in backbone.network.parameters()} == {torch.float32}
    assert backbone.extract(backbone.transform(image)[None], ["pooled"])["pooled"].isfinite().all()


def test_a_network_of_one_channel_reads_brightness(image):
    options = {"target": "timm:create_model", "size": 32}
    options["kwargs"] = {"model_name": "test_resnet", "in_chans": 1, "num_classes": 0}
    with pytest.raises(InputError, match=r"cannot read an image of 3 x 32 x 32 .*one channel a mean and a std of one"):
        _ = ModuleBackbone(**options).kinds
    backbone = ModuleBackbone(**options, mean=[0.5], std=[0.25])
    pixels = backbone.transform(image)
    assert pixels.shape == (1, 32, 32)
    assert backbone.extract(pixels[None], ["pooled"])["pooled"].shape == (1, 96)


@pytest.mark.parametrize(
    ("target", "text"), [("Dropping", "differ between two extractions"), ("Training", "differ between a batch and row")]
)
def test_networks_that_draw_or_train_in_eval_mode_are_refused(home, target, text):
    backbone = build(target=f"probe_test_nets:{target}", kwargs=None)
    with pytest.raises(InputError, match=rf"pooled features of backbone module/probe_test_nets:{target} {text}"):
        FeatureStore(home / "cache").get(backbone, load("digits"), "train", ["pooled"], device="cpu", progress=False)
    assert not (home / "cache").exists()


def contract_case():
    return {"target": "timm:create_model", "kwargs": {"model_name": "resnet10t", "num_classes": 0}, "size": 64}
