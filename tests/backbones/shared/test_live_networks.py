"""Networks that a program holds: what names their features."""

import functools
import json
import threading
import warnings

import pytest
import torch
from torch import nn

from probe.backbones.module import ModuleBackbone
from probe.backbones.shared.live_networks import described, facts_of
from probe.core.base import digest
from probe.core.errors import InputError


class Small(nn.Module):
    def __init__(self, power=1):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.power = power

    def forward(self, x):
        return self.conv(x).abs().pow(self.power).mean((2, 3))


def small(power=1):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small(power)


def identity(network, transform=None):
    given = {"transform": transform} if transform else {"mean": [0.5], "std": [0.5]}
    return digest(ModuleBackbone(network, size=8, **given).identity())


def test_equal_networks_have_one_identity_and_each_difference_makes_another():
    hooked, patched, strided, heavier = small(), small(), small(), small()
    hooked.conv.register_forward_hook(lambda module, inputs, output: output * 2)
    patched.conv.forward = lambda x: patched.conv._conv_forward(x, patched.conv.weight, None)
    strided.conv.stride = (2, 2)
    heavier.conv.weight.data[0, 0, 0, 0] += 1e-3
    assert identity(small()) == identity(small().train())
    assert len({identity(n) for n in (small(), small(2), hooked, strided, heavier)}) == 5
    assert identity(patched) != identity(small())


def test_the_transform_is_named_by_its_code_and_what_it_holds():
    def scale(image, by):
        return torch.full((1, 8, 8), float(by))

    found = {identity(small(), functools.partial(scale, by=by)) for by in (1, 1, 2)}
    assert len(found) == 2


def test_a_network_is_copied():
    network = small().train()
    backbone = ModuleBackbone(network, size=8, mean=[0.5], std=[0.5])
    assert backbone.name == "module/Small"
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert not any(p.requires_grad for p in backbone.network.parameters())


def test_circles_end_and_what_cannot_be_read_is_another_thing_each_time():
    ring = [1]
    ring.append(ring)
    assert json.loads(json.dumps(described(ring))) == [1, "above"]
    with pytest.warns(UserWarning, match="network x holds something whose content cannot be read"):
        first = facts_of(threading.Lock(), "network x")
    with pytest.warns(UserWarning, match="content cannot be read"):
        assert first != facts_of(threading.Lock(), "network x")


def test_what_cannot_be_copied_or_read_is_refused():
    network = small()
    network.lock = threading.Lock()
    with pytest.raises(InputError, match="a Small that cannot be copied"):
        ModuleBackbone(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        traced = torch.jit.trace(small(), torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match=r"TorchScript, whose code cannot be read .* save it with torch\.jit\.save"):
        ModuleBackbone(traced)
    with pytest.raises(InputError, match="transform is 3, expected a function of a PIL image"):
        ModuleBackbone(small(), transform=3)
