"""Networks that were saved whole, as backbones."""

import json
import pathlib
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from probe.backbones.module import ModuleBackbone
from probe.core.errors import InputError

ANY_BATCH = ({0: torch.export.Dim("batch")},)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, stride=4)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.norm(self.conv(x)))


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("evil"),)


def save(form, network, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against each of its formats in turn
        if form == "script":
            torch.jit.script(network).save(path)
        elif form == "trace":
            torch.jit.trace(network, torch.zeros(1, 3, 8, 8), check_trace=False).save(path)
        elif form == "export":
            batch = (torch.zeros(2, 3, 8, 8),)
            torch.export.save(torch.export.export(network, batch, dynamic_shapes=ANY_BATCH), path)
        else:
            torch.save(network, path)
    return path


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Net()
    network(torch.randn(8, 3, 8, 8))  # statistics of its own
    return network.eval()


@pytest.fixture
def batch():
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


FORMS = [("script", "net.pt"), ("trace", "net.ts"), ("export", "net.pt2"), ("pickle", "net.pth")]


@pytest.mark.parametrize(("form", "path"), FORMS)
def test_a_saved_network_gives_what_it_gave_and_stays_frozen(form, path, home, network, batch):
    backbone = ModuleBackbone(save(form, network, path), size=8, trust=True)
    before = backbone.hash_weights()
    given = backbone.extract(batch, ["pooled", "map"])
    with torch.no_grad():
        torch.testing.assert_close(given["map"], network(batch))
    torch.testing.assert_close(given["pooled"], given["map"].mean((2, 3)))
    assert backbone.name == "module/net"
    assert backbone.n_parameters == sum(p.numel() for p in network.parameters())
    assert backbone.hash_weights() == before
    assert not any(module.training for module in backbone.network.modules())
    assert not any(p.requires_grad for p in backbone.network.parameters())
    image = Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8))
    assert backbone.transform(image).shape == (3, 8, 8)


@pytest.mark.parametrize(("form", "path"), FORMS)
def test_no_saved_network_is_read_without_trust(form, path, home, network):
    save(form, network, path)
    danger = "read and write files" if form in ("script", "trace") else "unpickled to be read and can run any code"
    with pytest.raises(InputError, match=rf"{danger}.*set backbone\.trust=true if you trust whoever made it, or name"):
        ModuleBackbone(path, size=8)


class Writer(nn.Module):
    """Leaves a file behind when it runs, from within TorchScript."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "written")
        return x.mean((2, 3))


def test_a_scripted_network_writes_no_file_without_trust(home):
    save("script", Writer(), "net.pt")
    with pytest.raises(InputError, match=r"net\.pt is TorchScript"):
        ModuleBackbone("net.pt", size=8)
    assert not pathlib.Path("written").exists()
    assert ModuleBackbone("net.pt", size=8, trust=True).kinds
    assert pathlib.Path("written").exists()


def test_nothing_is_unpickled_without_trust(home):
    torch.save({"a": Evil()}, "evil.pt")
    with pytest.raises(InputError, match=r"evil\.pt is a pickle"):
        ModuleBackbone("evil.pt", size=8)
    assert not pathlib.Path("evil").exists()


def test_identity_is_that_of_the_file_wherever_it_stands(home, network):
    save("script", network, "a.pt")
    (home / "b.pt").write_bytes((home / "a.pt").read_bytes())
    with torch.no_grad():
        network.conv.weight += 1
    save("script", network, "c.pt")
    identities = [
        json.dumps(ModuleBackbone(p, size=8, trust=True).identity(), sort_keys=True) for p in ("a.pt", "b.pt", "c.pt")
    ]
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize("form", ["export", "trace"])
def test_networks_saved_in_training_mode_are_refused(form, home, network):
    save(form, network.train(), "net.pt2")
    with pytest.raises(InputError, match="as in training: save it in eval mode"):
        ModuleBackbone("net.pt2", size=8, trust=True)


def test_networks_for_one_size_of_batch_are_refused(home, network):
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 8, 8),)), "one.pt2")
    with pytest.raises(InputError, match=r"one\.pt2 does not take batches of one and of two images of 8 pixels"):
        ModuleBackbone("one.pt2", size=8, trust=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target": "nowhere.pt"}, r"target nowhere\.pt is no file: give the path of a saved network"),
        ({"target": "junk.pt"}, r"junk\.pt cannot be read as a pickle .*give an undamaged file"),
        ({"target": "state.pt"}, r"state\.pt holds a OrderedDict, expected a whole network"),
        ({"kwargs": {"depth": 3}}, r"kwargs is {'depth': 3}, but net\.pt is a saved network"),
        ({"taps": ["conv"]}, r"net\.pt has no layers to tap, taps has \['conv'\]"),
    ],
)
def test_impossible_options_are_refused(options, text, home, network):
    save("script", network, "net.pt")
    (home / "junk.pt").write_bytes(b"junk")
    torch.save(network.state_dict(), "state.pt")
    with pytest.raises(InputError, match=text):
        ModuleBackbone(**{"target": "net.pt", "size": 8, "trust": True, **options})
