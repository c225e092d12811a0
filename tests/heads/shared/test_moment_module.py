"""The module of moment probing beside the released code and numpy."""

import numpy as np
import pytest
import torch
from moment_rows import random_batch, tensors
from oracles import assert_relative, files_of
from safetensors.torch import load_file
from torch.nn import functional

from probe.core.device import full_precision
from probe.heads.shared import moment_module
from probe.heads.shared.moment_module import MomentProbingModule, reduced_side
from probe.heads.shared.token_moments import n_pairs

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
RENAMED = {
    "proj.": "projection.",
    "ln.": "norm.",
    "downblocks.0.": "reduction.",
    "classifier1.": "first.",
    "classifier2.": "second.",
    "cls_head.fc.": "first.",
    "cls_head.norm.": "pooled_norm.",
}


def ours(name):
    """Our name of a reference parameter, without its `param.` or `grad.`."""
    name = name.partition(".")[2]
    old = next(old for old in RENAMED if name.startswith(old))
    return RENAMED[old] + name.removeprefix(old)


def oracle_module(data, device):
    state = {ours(name): value for name, value in data.items() if name.startswith("param.")}
    if "input.feature_map" in data:
        layout, n_prefix_tokens, feature_map = "cnn", 0, data["input.feature_map"]
        batch = {"pooled": feature_map.mean(dim=(2, 3)), "tokens": feature_map.flatten(2).transpose(1, 2)}
        state["projection.weight"] = state["projection.weight"].flatten(1)
    else:
        layout, n_prefix_tokens = "vit", 1
        batch = {"pooled": data["input.cls"], "tokens": data["input.tokens_with_prefix"]}
    hidden_width, width = state["projection.weight"].shape
    module = MomentProbingModule(
        batch["pooled"].shape[1],
        width,
        len(state["first.bias"]),
        layout=layout,
        hidden_width=hidden_width,
        n_groups=hidden_width // len(state["norm.weight"]),
        n_prefix_tokens=n_prefix_tokens,
    )
    module.load_state_dict(state)
    return module.to(device, batch["pooled"].dtype), {kind: value.to(device) for kind, value in batch.items()}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("path", files_of("moment_probing"), ids=lambda path: path and path.stem)
def test_logits_loss_and_gradients_equal_the_released_ones(path, device):
    data = load_file(path)
    module, batch = oracle_module(data, device)
    with full_precision():
        logits = module(batch)
        loss = functional.cross_entropy(logits, data["labels"].to(device))
        loss.backward()
    absolute, relative = (1e-5, 1e-5) if device == "cpu" else (1e-4, 1e-4)
    torch.testing.assert_close(logits.cpu(), data["output.logits"], atol=absolute, rtol=0)
    torch.testing.assert_close(loss.cpu(), data["output.loss"].reshape(()), atol=absolute, rtol=0)
    gradients = {name: p.grad.cpu() for name, p in module.named_parameters()}
    expected = {ours(name): (name, value) for name, value in data.items() if name.startswith("grad.")}
    assert expected
    for name, (reference, value) in expected.items():
        assert_relative(gradients[name], value.reshape(gradients[name].shape), relative, reference)


@pytest.mark.parametrize("layout", ["vit", "cnn"])
@pytest.mark.parametrize("second_moment", ["as_released", "centred"])
@pytest.mark.parametrize(("hidden_width", "n_groups"), [(32, 4), (33, 3), (16, 2), (9, 1), (96, 8)])
def test_permuting_or_repeating_tokens_moves_no_logit(layout, second_moment, hidden_width, n_groups):
    torch.manual_seed(0)
    module = MomentProbingModule(
        12, 12, 3, layout=layout, second_moment=second_moment, hidden_width=hidden_width, n_groups=n_groups
    )
    batch = tensors(random_batch())
    order = torch.randperm(10)
    expected = module(batch)
    torch.testing.assert_close(module(batch | {"tokens": batch["tokens"][:, order]}), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(module(batch | {"tokens": batch["tokens"].repeat(1, 3, 1)}), expected, atol=1e-5, rtol=0)
    assert module.moment_maps(module.projected(batch["tokens"])).shape == (
        5,
        n_pairs(n_groups),
        *2 * (hidden_width // n_groups,),
    )


@pytest.mark.parametrize("layout", ["vit", "cnn"])
@pytest.mark.parametrize("second_moment", ["as_released", "centred"])
def test_moment_columns_have_norm_one(layout, second_moment):
    module = MomentProbingModule(12, 12, 3, layout=layout, second_moment=second_moment, hidden_width=32)
    norms = module.moment_maps(module.projected(tensors(random_batch())["tokens"])).norm(dim=-2)
    torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("layout", ["vit", "cnn"])
@pytest.mark.parametrize("second_moment", ["as_released", "centred"])
def test_what_stands_under_the_mask_and_more_of_it_moves_no_logit(layout, second_moment):
    batch = random_batch()
    module = MomentProbingModule(12, 12, 3, layout=layout, second_moment=second_moment, hidden_width=32).eval()
    padded = {
        **batch,
        "tokens": np.pad(batch["tokens"], ((0, 0), (0, 6), (0, 0)), constant_values=7).astype(np.float32),
    }
    mask = np.arange(16)[None] < np.full((len(batch["tokens"]), 1), 10)
    with torch.no_grad():
        alone, among = module(tensors(batch)), module(tensors({**padded, "mask": mask}))
    torch.testing.assert_close(among, alone, rtol=1e-5, atol=1e-5)


def test_moments_equal_numpy_computed_by_hand():
    module = MomentProbingModule(12, 12, 3, hidden_width=21, n_groups=3, second_moment="centred").double()
    tokens = random_batch()["tokens"].astype(np.float64)
    maps = module.moment_maps(module.projected(torch.from_numpy(tokens))).detach().numpy()
    projected = tokens[1] @ module.projection.weight.detach().numpy().T + module.projection.bias.detach().numpy()
    groups = projected.reshape(10, 3, 7)
    groups = (groups - groups.mean(axis=2, keepdims=True)) / np.sqrt(groups.var(axis=2, keepdims=True) + 1e-5)
    covariance = np.cov(groups[:, 1].T, groups[:, 2].T, bias=True)[:7, 7:]
    np.testing.assert_allclose(maps[1, 1], covariance / np.linalg.norm(covariance, axis=0), atol=1e-12)


def test_only_the_centred_moment_forgets_a_constant_added_to_all_tokens():
    changed = {}
    for second_moment in ("as_released", "centred"):
        torch.manual_seed(0)
        module = MomentProbingModule(12, 12, 3, hidden_width=32, second_moment=second_moment).double()
        module.norm = torch.nn.Identity()
        tokens = torch.from_numpy(random_batch()["tokens"]).double()
        shift = torch.linspace(-1, 1, 12)
        changed[second_moment] = (
            (module.moment_maps(module.projected(tokens + shift)) - module.moment_maps(module.projected(tokens)))
            .abs()
            .max()
        )
    assert changed["centred"] < 1e-12
    assert changed["as_released"] > 1e-2


def test_without_the_second_classifier_logits_are_half_the_linear_ones():
    module = MomentProbingModule(12, 12, 3, hidden_width=32)
    torch.nn.init.zeros_(module.second.weight)
    torch.nn.init.zeros_(module.second.bias)
    batch = tensors(random_batch())
    torch.testing.assert_close(module(batch), module.first(batch["pooled"]) / 2)


def test_the_pooled_feature_does_not_reach_the_projection():
    module = MomentProbingModule(12, 12, 3, hidden_width=32)
    torch.nn.init.zeros_(module.second.weight)
    functional.cross_entropy(module(tensors(random_batch())), torch.arange(5) % 3).backward()
    assert module.projection.weight.grad.abs().max() == 0
    assert module.first.weight.grad.abs().max() > 0


def test_published_parameter_counts():
    with torch.device("meta"):
        counts = [sum(p.numel() for p in MomentProbingModule(768, 768, k).parameters()) for k in (1000, 100)]
    assert counts == [4_047_146, 759_446]
    assert 3 * reduced_side(128) ** 2 == 2883


def test_one_token_gives_columns_parallel_to_it():
    module = MomentProbingModule(12, 12, 3, hidden_width=32, n_groups=2).double()
    token = torch.from_numpy(random_batch(n_tokens=1)["tokens"]).double()
    maps = module.moment_maps(module.projected(token))[:, 0]
    x = module.norm(module.projection(token)[:, 0].reshape(5, 2, 16))[:, 0]
    cosines = (maps * functional.normalize(x, dim=1)[:, :, None]).sum(dim=1).abs()
    torch.testing.assert_close(cosines, torch.ones_like(cosines))


def test_only_patch_tokens_enter_the_second_moment():
    torch.manual_seed(0)
    module = MomentProbingModule(12, 12, 3, hidden_width=32, n_prefix_tokens=2)
    batch = tensors(random_batch())
    poisoned = batch["tokens"].clone()
    poisoned[:, :2] = 1e3
    assert torch.equal(module(batch | {"tokens": poisoned}), module(batch))


@pytest.mark.parametrize("second_moment", ["as_released", "centred"])
def test_maps_and_their_factors_give_the_same_logits_and_gradients(second_moment, monkeypatch):
    torch.manual_seed(0)
    module = MomentProbingModule(12, 12, 3, hidden_width=36, second_moment=second_moment).double()
    batch = {**tensors(random_batch()), "mask": torch.arange(10) < torch.tensor([10, 4, 1, 7, 9])[:, None]}
    batch = {kind: value.double() if value.is_floating_point() else value for kind, value in batch.items()}
    found = []
    for few in (0, 32):
        monkeypatch.setattr(moment_module, "FEW_TOKENS", few)
        logits = module(batch)
        found.append((logits, *torch.autograd.grad(logits.square().sum(), list(module.parameters()))))
    for by_maps, by_factors in zip(*found, strict=True):
        torch.testing.assert_close(by_factors, by_maps)


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_scaling_the_tokens_moves_no_moment_where_the_projection_has_no_bias(scale):
    module = MomentProbingModule(12, 12, 3, hidden_width=32).double()
    torch.nn.init.zeros_(module.projection.bias)
    module.norm.eps = 1e-14
    tokens = tensors(random_batch())["tokens"].double()
    torch.testing.assert_close(
        module.moment_maps(module.projected(scale * tokens)),
        module.moment_maps(module.projected(tokens)),
        atol=1e-9,
        rtol=0,
    )
    assert (
        module.moment_maps(module.projected(tokens + 1)) - module.moment_maps(module.projected(tokens))
    ).abs().max() > 0.1
