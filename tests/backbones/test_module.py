import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from probe.backbones.module import ModuleBackbone
from probe.core.errors import InputError

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
        }[self.form]


def build(**kwargs):
    return Net(**kwargs)


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
