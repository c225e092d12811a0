"""Batches in parts, several at once on threads of their own: the features of the whole batch, and nothing shared."""

import pickle
import threading
import time
from operator import is_

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from probe.backbones.shared import crew, parts
from probe.backbones.shared.image_network import ImageNetwork
from probe.backbones.timm import TimmBackbone
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
            raise InputError(f"a poisoned part, row {batch[0, 1, 0, 0]:.0f}")
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


def warm(backbone):
    """Its copies are made, and have been compared."""
    backbone.extract(images(64), ["pooled"])
    backbone.runs.clear()
    return backbone


def threads_of(backbone, n_rows=64):
    """In which threads a backbone runs a batch."""
    warm(backbone).extract(images(n_rows), ["pooled"])
    return {thread for thread, *_ in backbone.runs}


HERE = {threading.get_ident()}


@pytest.mark.parametrize("n_rows", [0, 1, 5, 6, 23, 64])
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
    backbone = warm(Little(precision="bfloat16"))
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
    assert threads_of(Little(network)) == HERE


def test_replicas_share_weights_and_buffers_and_nothing_else():
    backbone = Little(taps=["1"])
    replica, other = backbone._replicas(2)
    own, theirs = backbone.network, replica.network
    assert len({id(network[0]) for network in (own, theirs, other.network)}) == 3
    assert own[0].conv.weight is theirs[0].conv.weight
    assert own[0].norm.running_mean is theirs[0].norm.running_mean
    theirs[0].seen.append(1)
    assert own[0].seen == []
    backbone.extract(images(64), ["1", "pooled"])
    assert not any(module._forward_hooks for module in own.modules())
    assert len(own[0].kept) == 1  # of the rows by which shapes are found and copies compared


class Lazy(nn.Conv2d):
    """Comes back from a copy otherwise than it was."""

    def __init__(self, change):
        super().__init__(3, 4, 3)
        self.change = change

    def __deepcopy__(self, memo):
        if self.change == "nothing is copied":
            return self
        other = Lazy(self.change).eval()
        other.weight, other.bias = self.weight, self.bias
        if self.change == "mode":
            other.train()
        elif self.change == "weight":
            other.weight = nn.Parameter(self.weight.clone())
        elif self.change == "class":
            other.__class__ = type("Other", (Lazy,), {})
        elif self.change == "buffer":
            other.register_buffer("more", torch.zeros(1))
        elif self.change == "module":
            other.more = nn.Identity()
        elif self.change == "numbers":
            other.padding = (1, 1)
        return other


@pytest.mark.parametrize(
    ("change", "serial"),
    [(None, False)]
    + [(c, True) for c in ("nothing is copied", "mode", "weight", "class", "buffer", "module", "numbers")],
)
def test_a_copy_serves_only_where_it_is_the_same_network(change, serial):
    assert (threads_of(Little(nn.Sequential(Lazy(change)))) == HERE) == serial


def test_a_graph_runs_in_parts_by_itself_and_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(parts, "PART_PIXELS", 2 * 32 * 32)
    graph = {"model_kwargs": {"features_only": True, "feature_cls": "fx"}, "img_size": 32}
    backbone = TimmBackbone("test_resnet", pretrained=False, **graph)
    batch, weights = bytes_of(8), backbone.hash_weights()
    expected = whole(backbone, batch, ["pooled"])["pooled"]
    assert backbone._replicas(2) == []
    for _ in range(2):
        torch.testing.assert_close(backbone.extract(batch, ["pooled"])["pooled"], expected, rtol=1e-4, atol=1e-5)
    assert backbone.hash_weights() == weights


def bytes_of(n, side=32):
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("make", [
    TinyBackbone,
    lambda: TimmBackbone("test_vit", pretrained=False, img_size=32),
    lambda: TimmBackbone("test_resnet", pretrained=False, img_size=32),
])  # fmt: skip
def test_networks_of_the_package_run_side_by_side_and_stay_as_they_are(make, monkeypatch):
    monkeypatch.setattr(parts, "PART_PIXELS", 2 * 32 * 32)
    backbone = make()
    batch, weights = bytes_of(8), backbone.hash_weights()
    expected = whole(backbone, batch, ["pooled"])["pooled"]
    assert len(backbone._replicas(2)) == 2
    for _ in range(2):
        torch.testing.assert_close(backbone.extract(batch, ["pooled"])["pooled"], expected, rtol=1e-4, atol=1e-5)
    assert backbone.hash_weights() == weights


def networks_of(backbone):
    return [replica.network for replica in backbone._replicas(2)]


def test_copies_are_kept_while_the_network_stays_as_it_is():
    backbone = Little(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4)))
    first = networks_of(backbone)
    backbone.network[0].weight.data += 1
    backbone.extract(images(64), ["pooled"])
    assert all(map(is_, networks_of(backbone), first))
    assert len(pickle.dumps(backbone)) < 2 * len(pickle.dumps(backbone.network)) + 2000
    assert backbone.to("cpu")._crew._copies == []


def moved(network):
    network[2].running_mean = torch.ones(4)


@pytest.mark.parametrize("change", [
    lambda network: setattr(network[1], "p", 0.25),
    lambda network: setattr(network[0], "weight", nn.Parameter(torch.ones(4, 3, 3, 3))),
    lambda network: network.append(nn.ReLU()),
    lambda network: network[1].train(),
    moved,
])  # fmt: skip
def test_a_network_that_is_changed_is_copied_anew(change):
    backbone = Little(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4)))
    backbone.extract(images(64), ["pooled"])
    change(backbone.network)
    backbone.network.eval()
    torch.testing.assert_close(
        backbone.extract(images(64), ["pooled"]), whole(backbone, images(64), ["pooled"]), rtol=1e-5, atol=1e-6
    )


def test_what_cannot_be_copied_is_tried_once(monkeypatch):
    tried = []
    monkeypatch.setattr(crew.copy, "deepcopy", lambda *given: tried.append(1) or 1 / 0)
    backbone = Little()
    for _ in range(3):
        backbone.extract(images(8), ["pooled"])
    assert len(tried) == 1


def test_hooks_of_the_users_own_hear_every_part():
    backbone, heard = Little(), []
    stop = backbone.network[0].conv.register_forward_hook(lambda module, given, out: heard.append(len(out)))
    assert threads_of(backbone) == HERE
    stop.remove()
    assert sum(heard) == 2 * 64
    assert threads_of(backbone) != HERE


def test_modes_of_a_thread_hear_every_part():
    backbone = warm(Little())
    flops = []
    for run in (whole, ImageNetwork.extract):
        with FlopCounterMode(display=False) as mode:
            run(backbone, images(64), ["pooled"])
        flops.append(mode.get_total_flops())
    assert flops[0] == flops[1] > 0


def test_a_thread_that_is_born_meanwhile_has_the_threads_of_the_process():
    found = []

    class Bearing(Little):
        def _features(self, batch):
            thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
            thread.start()
            thread.join()
            return super()._features(batch)

    backbone = warm(Bearing())
    found.clear()
    backbone.extract(images(64), ["pooled"])
    assert set(found) == {2}
    assert {n for _, n, *_ in backbone.runs} == {1}


def test_the_error_of_the_first_part_is_told_and_the_others_are_not_begun():
    backbone = Little()
    batch = images(400)
    batch[:, 1, 0, 0] = torch.arange(400)
    batch[9, 0], batch[30, 0] = 77, 77
    with pytest.raises(InputError, match=r"^a poisoned part, row 8$"):
        backbone.extract(batch, ["pooled"])
    assert len(backbone.runs) < 50
    assert torch.get_num_threads() == 2


def test_settings_of_the_process_are_left_as_they_were():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    Little().extract(images(64), ["pooled"])
    cudnn = torch.backends.cudnn
    assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == before


@pytest.mark.parametrize(("n_rows", "n_threads", "sizes"), [
    (0, 2, [0]), (4, 2, [4]), (6, 2, [3, 3]), (12, 2, [3, 3, 3, 3]), (12, 1, [4, 4, 4]), (2, 8, [2]), (16, 64, [2] * 8),
])  # fmt: skip
def test_parts_are_of_one_size_and_as_many_for_each_thread(n_rows, n_threads, sizes):
    batch = images(n_rows)
    assert [len(part) for part in parts.split(batch, parts.n_at_once(batch, n_threads))] == sizes


@pytest.mark.parametrize(("n_rows", "share"), [(8, 0.8), (16, 0.85), (32, 0.9), (64, 0.9), (256, 0.9)])
def test_few_threads_stand_idle_and_no_part_is_small(n_rows, share):
    batch = images(n_rows)
    for n_threads in range(1, 129):
        at_once = parts.n_at_once(batch, n_threads)
        assert at_once <= parts.MOST_AT_ONCE
        assert at_once * (n_threads // at_once) >= share * n_threads
        sizes = [len(part) for part in parts.split(batch, at_once)]
        assert len(sizes) % at_once == 0
        assert min(sizes) >= 2


def test_small_images_go_as_one(monkeypatch):
    monkeypatch.undo()
    batch = torch.zeros(256, 3, 32, 32)
    assert parts.n_at_once(batch, 2) == 1
    assert len(parts.split(batch)) == 1
