import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from probe.backbones.shared.checkpoints import load_state, read_state
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
    with pytest.raises(InputError, match=r"a\.pth holds more than tensors and would run code.*safetensors"):
        read_state(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_damaged_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(InputError, match=name):
        read_state(tmp_path / name)


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
