"""Batches in parts, several at once on threads of their own: the features of the whole batch, and nothing shared."""

import threading
import time

import pytest
import torch
from torch import nn

from probe.backbones.shared import parts
from probe.backbones.shared.image_network import ImageNetwork
from probe.backbones.tiny import TinyBackbone
from probe.core.errors import InputError

IMAGE_PIXELS = 8 * 8


class Keeper(nn.Module):
    """Keeps its batch between two layers."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.seen = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), []

    def forward(self, x):
        self.kept = x
        time.sleep(0.002)  # lets others write into it, were it theirs too
        return self.norm(self.conv(self.kept))


class Little(ImageNetwork):
    """A convolution, a batch norm and a mean; notes in which thread and how it runs."""

    runs_side_by_side = True

    def __init__(self, network=None, **given):
        torch.manual_seed(0)
        super().__init__(network or nn.Sequential(Keeper(), nn.GELU()), name="little", image_size=(8, 8), **given)
        self.runs = []
        _ = self.shapes
        self.runs.clear()

    def transform(self, row):
        return torch.as_tensor(row)

    def _features(self, batch):
        facts = (threading.get_ident(), torch.get_num_threads(), torch.is_inference_mode_enabled())
        self.runs.append((*facts, torch.is_autocast_enabled("cpu"), len(batch)))
        if len(batch) > 1 and (batch[:, 0, 0, 0] == 77).any():
            raise InputError(f"a poisoned part of {len(batch)} rows")
        return {"pooled": self.network(batch).mean((2, 3))}

    def _architecture(self):
        return {"family": "little"}

    def _preprocessing(self):
        return {}


@pytest.fixture(autouse=True)
def of_four_rows_on_two_threads(monkeypatch):
    monkeypatch.setattr(parts, "PART_PIXELS", 4 * IMAGE_PIXELS)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def images(n):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def whole(backbone, batch, kinds):
    found = backbone._run(batch, [kind for kind in kinds if kind in backbone.taps])
    return {kind: found[kind] for kind in kinds}


@pytest.mark.parametrize("n_rows", [1, 5, 6, 23, 64])
@pytest.mark.parametrize("given", [{}, {"precision": "bfloat16"}, {"memory_format": torch.channels_last}])
@torch.inference_mode()
def test_features_and_taps_in_parts_are_those_of_the_whole_batch(n_rows, given):
    backbone = Little(taps=["0.conv:map", "1"], **given)
    kinds = ["1", "pooled", "0.conv:map"]
    expected, found = whole(backbone, images(n_rows), kinds), backbone.extract(images(n_rows), kinds)
    assert list(found) == kinds
    for kind in kinds:
        torch.testing.assert_close(found[kind], expected[kind].float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inference", [False, True])
def test_two_parts_are_at_work_each_on_its_share_of_the_threads_in_the_callers_modes(inference):
    backbone = Little(precision="bfloat16")
    with torch.inference_mode(inference):
        found = backbone.extract(images(64), ["pooled"])["pooled"]
    assert found.is_inference() == inference
    threads, n_threads, modes, narrow, sizes = map(set, zip(*backbone.runs, strict=True))
    assert len(threads) == 2
    assert threading.get_ident() not in threads
    assert n_threads == {1}
    assert modes == {inference}
    assert narrow == {True}
    assert sizes == {4}
    assert torch.get_num_threads() == 2


def test_a_network_whose_class_does_not_say_so_runs_one_part_after_the_other():
    backbone = Little()
    backbone.runs_side_by_side = False
    expected = whole(backbone, images(64), ["pooled"])["pooled"]
    backbone.runs.clear()
    torch.testing.assert_close(backbone.extract(images(64), ["pooled"])["pooled"], expected)
    assert {(thread, size) for thread, *_, size in backbone.runs} == {(threading.get_ident(), 4)}


def test_so_does_one_that_cannot_be_copied():
    network = nn.Sequential(Keeper(), nn.GELU())
    network.lock = threading.Lock()
    backbone = Little(network)
    backbone.extract(images(64), ["pooled"])
    assert {thread for thread, *_ in backbone.runs} == {threading.get_ident()}


def test_replicas_share_weights_and_buffers_and_nothing_else():
    backbone = Little(taps=["1"])
    replica, _ = parts.replicas(backbone, 2)
    own, theirs = backbone.network, replica.network
    assert own[0] is not theirs[0]
    assert own[0].conv.weight is theirs[0].conv.weight
    assert own[0].norm.running_mean is theirs[0].norm.running_mean
    theirs[0].seen.append(1)
    assert own[0].seen == []
    backbone.extract(images(64), ["1", "pooled"])
    assert not any(module._forward_hooks for module in own.modules())
    assert len(own[0].kept) == 1  # of the blank row, by which shapes are found


def test_the_error_of_the_first_part_is_told_and_the_others_are_not_begun():
    backbone = Little()
    batch = images(400)
    batch[9], batch[30] = 77, 77
    with pytest.raises(InputError, match="a poisoned part of 4 rows"):
        backbone.extract(batch, ["pooled"])
    assert len(backbone.runs) < 50
    assert torch.get_num_threads() == 2


def test_settings_of_the_process_are_left_as_they_were():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    Little().extract(images(64), ["pooled"])
    cudnn = torch.backends.cudnn
    assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == before


@pytest.mark.parametrize(("n_rows", "n_at_once", "sizes"), [
    (4, 2, [4]), (6, 2, [3, 3]), (12, 2, [3, 3, 3, 3]), (12, 1, [4, 4, 4]), (2, 8, [2]), (16, 64, [4, 4, 4, 4]),
])  # fmt: skip
def test_parts_are_of_one_size_and_as_many_for_each_thread(n_rows, n_at_once, sizes):
    assert [len(part) for part in parts.split(images(n_rows), n_at_once)] == sizes


def test_small_images_go_as_one(monkeypatch):
    monkeypatch.undo()
    assert len(parts.split(torch.zeros(256, 3, 32, 32), 2)) == 1
    assert TinyBackbone.runs_side_by_side
