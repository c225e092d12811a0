import argparse
import datetime
import pathlib
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from probe.backbones.shared.checkpoints import load_checkpoint, load_state, read_state
from probe.core.errors import InputError


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


class Custom:
    """Something that only a pickle can hold."""


def test_safetensors_and_pth_give_the_same_weights(tmp_path):
    state = network().state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pth")
    one, two = read_state(tmp_path / "a.safetensors"), read_state(tmp_path / "a.pth")
    assert one.keys() == two.keys() == state.keys()
    assert all(torch.equal(one[key], two[key]) for key in state)


@pytest.mark.parametrize("nest", ["state_dict", "model", "state_dict_ema"])
def test_nested_weights_and_wrapper_prefixes_are_unwrapped(tmp_path, nest):
    state = network().state_dict()
    torch.save({nest: {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "a.pth")
    assert read_state(tmp_path / "a.pth").keys() == state.keys()


def test_pickled_objects_are_refused(tmp_path):
    torch.save({"state_dict": network().state_dict(), "options": Custom()}, tmp_path / "a.pth")
    with pytest.raises(
        InputError, match=r"a\.pth holds more than tensors \(\S*Custom\) and would run code.*safetensors"
    ):
        read_state(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_damaged_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(InputError, match=name):
        read_state(tmp_path / name)


def test_what_is_no_checkpoint_is_told_with_what_became_of_it(tmp_path):
    (tmp_path / "a.pth").write_text("hello")
    with pytest.raises(InputError, match=r"a\.pth cannot be read \(KeyError: 101\): give an undamaged file"):
        read_state(tmp_path / "a.pth")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"b\.pth is no file: give the path"):
        read_state(tmp_path / "b.pth")


def test_misfits_are_refused_with_counts_and_first_names():
    state = network().state_dict()
    del state["2.bias"], state["0.bias"]
    state["fc.weight"] = torch.zeros(1)
    state["2.weight"] = torch.zeros(5, 4)
    expected = r"2 missing keys \(0\.bias, 2\.bias\); 1 unexpected keys \(fc\.weight\); 1 reshaped keys \(2\.weight\)"
    with pytest.raises(InputError, match=expected + r".*strict=false"):
        load_state(network(), state, "file")


def test_strict_false_loads_what_fits_and_returns_the_rest():
    target, state = network(), network().state_dict()
    state["2.weight"] = torch.zeros(5, 4)
    kept = target[2].weight.detach().clone()
    assert load_state(target, state, "file", strict=False) == {"reshaped": ["2.weight"]}
    assert torch.equal(target[0].weight, state["0.weight"])
    assert torch.equal(target[2].weight, kept)


def test_a_foreign_checkpoint_is_refused_even_without_strict():
    with pytest.raises(InputError, match="no weight in common"):
        load_state(network(), {"stem.conv": torch.zeros(1)}, "file", strict=False)


def test_missing_batch_counters_do_not_count():
    state = {k: v for k, v in network().state_dict().items() if "num_batches" not in k}
    assert load_state(network(), state, "file") == {}


def test_half_precision_weights_are_widened():
    target = network()
    state = {k: v.half() if v.is_floating_point() else v for k, v in network().state_dict().items()}
    load_state(target, state, "file")
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, state["0.weight"].float())


def under(prefix: str, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {prefix + key: value for key, value in network().state_dict().items()}


HEAD = {"head.mlp.0.weight": torch.ones(2, 2), "backbone_projector.weight": torch.ones(2)}
WRITTEN = {
    "DINO": {"student": under("module.backbone.", 1), "teacher": {**under("backbone."), **HEAD}, "epoch": 3},
    "DINOv2": {"model": {**under("teacher.backbone."), "teacher.dino_head.weight": torch.ones(1)}},
    "Lightning": {"state_dict": {**under("model."), "criterion.weight": torch.ones(1)}, "global_step": 1},
    "MoCo": {"state_dict": {**under("module.base_encoder."), "module.predictor.0.weight": torch.ones(1)}},
    "SwAV": under("module."),
    "timm with averages": {"model_ema": {"state_dict": under("")}, "state_dict": under("", 1)},
    "compiled and distributed": under("_orig_mod.module."),
    "distributed and compiled": under("module._orig_mod."),
    "arguments": {"model": under(""), "args": argparse.Namespace(lr=0.1, out=pathlib.Path("out"))},
    "numbers of numpy": {"state_dict": under(""), "metric": np.float64(0.5), "best": {"epoch": np.int64(3)}},
}


@pytest.mark.parametrize("content", WRITTEN.values(), ids=WRITTEN)
def test_files_of_training_scripts_give_the_weights_of_the_network(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    target, expected = network(), under("")
    assert load_checkpoint(target, str(tmp_path / "a.pth"), None, strict=True) == {}
    assert all(torch.equal(value, expected[key]) for key, value in target.state_dict().items())


def test_several_networks_in_one_file_are_asked_about_and_the_option_answers(tmp_path):
    path = str(tmp_path / "a.pth")
    student = {key: value for key, value in under("module.encoder_q.", 1).items() if "num_batches" not in key}
    torch.save({"state_dict": {**under("module.encoder_k."), **student}}, path)
    with pytest.raises(
        InputError, match=r"2 networks .*, under encoder_k\., encoder_q\.: .*checkpoint_prefix=encoder_k\."
    ):
        load_checkpoint(network(), path, None, strict=True)
    for prefix, seed in (("encoder_k.", 0), ("encoder_q.", 1)):
        target = network()
        load_checkpoint(target, path, prefix, strict=True)
        assert torch.equal(target[0].weight, under("", seed)["0.weight"])


def test_a_prefix_that_no_name_has_is_refused_with_names_that_are_there(tmp_path):
    torch.save(under("model."), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"no weight whose name begins with 'teacher\.' \(it has model\.0\.weight"):
        load_checkpoint(network(), str(tmp_path / "a.pth"), "teacher.", strict=True)


def test_names_that_fit_as_they_are_lose_no_prefix(tmp_path):
    torch.save({**under(""), **under("ema.")}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"unexpected keys \(ema\.0\.bias"):
        load_checkpoint(network(), str(tmp_path / "a.pth"), None, strict=True)


def test_a_few_names_in_common_are_no_prefix(tmp_path):
    state = {f"deep.inside.{key}": torch.ones(1) for key in ("0.weight", "9.weight", "8.weight")}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"no weight in common .*it has deep\.inside\.0\.weight"):
        load_checkpoint(network(), str(tmp_path / "a.pth"), None, strict=True)


def test_hyperparameters_of_lightning_are_read_without_lightning(tmp_path, monkeypatch):
    package, name = "pytorch_lightning.utilities.parsing", "AttributeDict"
    written = type(name, (dict,), {"__module__": package})
    for part in ("pytorch_lightning", "pytorch_lightning.utilities", package):
        monkeypatch.setitem(sys.modules, part, types.SimpleNamespace(**{name: written}))
    torch.save({"state_dict": under("model."), "hyper_parameters": written(lr=1)}, tmp_path / "a.ckpt")
    for part in ("pytorch_lightning", "pytorch_lightning.utilities", package):
        monkeypatch.delitem(sys.modules, part)
    assert read_state(tmp_path / "a.ckpt").keys() == under("model.").keys()


@pytest.mark.parametrize("thing", [datetime.datetime(2020, 1, 1), Custom(), print])
def test_a_class_that_is_refused_is_named(tmp_path, thing):
    torch.save({"state_dict": under(""), "thing": thing}, tmp_path / "a.pth")
    name = "print" if thing is print else type(thing).__name__
    with pytest.raises(InputError, match=rf"holds more than tensors \(\S*{name}\) and would run code"):
        read_state(tmp_path / "a.pth")
