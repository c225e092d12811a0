"""A network that trains, copied but for its weights."""

import copy
import warnings

import pytest
import torch
from torch import nn

from probe.backbones.module import ModuleBackbone
from probe.backbones.shared.borrowed import Borrowed, unwrapped
from probe.core.errors import InputError
from probe.core.source import is_unknown


class Keeper(nn.Module):
    """Normalises, drops, and keeps what it saw last, as networks do for debugging."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.tied = self.conv
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.seen = {"last": []}
        self.n_calls = 0

    def forward(self, x):
        x = self.norm(self.conv(x))
        self.seen["last"].append(x)
        self.n_calls += 1
        return self.drop(x).mean((2, 3))


def trained():
    torch.manual_seed(0)
    network = Keeper()
    network(torch.randn(4, 3, 8, 8)).sum().backward()
    network.norm.eval()
    return network


def test_weights_lie_where_they_lay_and_all_else_is_a_copy():
    network = trained()
    own = Borrowed(network).copy()
    for theirs, mine in zip(network.parameters(), own.parameters(), strict=True):
        assert mine.data_ptr() == theirs.data_ptr()
        assert not mine.requires_grad
        assert mine.grad is None
        assert theirs.requires_grad
        assert theirs.grad is not None
    assert own.tied is own.conv
    assert own.norm.running_mean.data_ptr() != network.norm.running_mean.data_ptr()
    assert [m.training for m in own.modules()] == [m.training for m in network.modules()]


def test_a_step_of_the_optimiser_is_seen_and_a_forward_is_not():
    network = trained()
    own = Borrowed(network).copy().train()
    with torch.no_grad():
        network.conv.weight.add_(1)
    assert torch.equal(own.conv.weight, network.conv.weight)
    buffers = copy.deepcopy(dict(network.named_buffers()))
    own(torch.randn(4, 3, 8, 8))
    assert all(torch.equal(value, buffers[name]) for name, value in network.named_buffers())
    assert network.n_calls == len(network.seen["last"]) == 1


def test_old_weight_norm_which_keeps_what_it_computed_is_copied():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.utils.weight_norm(nn.Linear(3, 2))
    layer(torch.randn(1, 3)).sum().backward()
    x = torch.randn(2, 3)
    assert torch.equal(Borrowed(layer).copy()(x), layer(x))


def test_what_is_moved_or_widened_stays_where_it_was():
    network = nn.Conv2d(3, 4, 3).bfloat16()
    backbone = ModuleBackbone(Borrowed(network), size=8)
    assert backbone.network.weight.dtype == torch.float32
    assert network.weight.dtype == torch.bfloat16


def test_features_that_are_kept_have_the_name_of_a_run_and_others_have_none():
    network = nn.Conv2d(3, 4, 3)
    names = [ModuleBackbone(given, size=8).identity() for given in (network, Borrowed(network, named=True))]
    assert names[0] == names[1]
    assert is_unknown(ModuleBackbone(Borrowed(network), size=8).identity())


def test_wrappers_are_taken_off():
    network = nn.Linear(2, 2)
    assert unwrapped(nn.DataParallel(network)) is network
    assert unwrapped(torch.compile(nn.DataParallel(network))) is network
    assert unwrapped(network) is network


def test_sharded_weights_are_refused_in_a_sentence():
    class FlatParameter(nn.Parameter):
        pass

    network = nn.Linear(2, 2)
    network.weight = FlatParameter(torch.zeros(2, 2))
    with pytest.raises(InputError, match=r"are sharded \(FlatParameter\), and no process could run it alone: save"):
        Borrowed(network).copy()


def test_what_cannot_be_copied_is_refused_in_a_sentence():
    network = nn.Linear(2, 2)
    network.file = open(__file__)  # noqa: SIM115
    with network.file, pytest.raises(InputError, match=r"the network is a Linear that cannot be copied \(.*pickle"):
        Borrowed(network).copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(InputError, match="of TorchScript, which cannot be copied without its weights"):
        Borrowed(scripted).copy()
