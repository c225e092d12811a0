import numpy as np
import pytest
import torch
from oracles import assert_relative, files_of
from safetensors.torch import load_file
from sklearn.datasets import load_diabetes

from probe.core.errors import InputError
from probe.heads.fourier_head import FourierHead, centres, log_probabilities, penalty, power


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`."""
    return {"n_frequencies": [3], "n_bins": 16, "max_iter": 30}


def random_outputs(n=20, frequencies=6, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 2 * (frequencies + 1))))


def density(outputs, z):
    """p at the places z."""
    return power(outputs, z) / (2 * outputs.square().sum(dim=1, keepdim=True))


def on_grid(outputs):
    """|A|^2 at as many places as tell it."""
    return power(outputs, centres(outputs.shape[1] - 1, outputs))


@pytest.mark.parametrize("path", files_of("fourier_head"), ids=lambda path: path.stem if path else "")
def test_coefficients_probabilities_and_gradients_are_those_of_the_reference(path):
    given = load_file(path)
    for case in sorted({name.split(".")[1] for name in given if name.startswith("input.")}):
        n_bins, n_frequencies = given[f"hyper.{case}.bins_frequencies"].tolist()
        gamma = float(given[f"hyper.{case}.gamma_const"][0])
        features, weight, bias = (
            given[name].double().requires_grad_()
            for name in (f"input.{case}.features", f"param.{case}.weight", f"param.{case}.bias")
        )
        labels = given[f"input.{case}.labels"]

        def told(name, case=case):
            return given[f"output64.{case}.{name}"]

        outputs = features @ weight.T + bias
        logits = log_probabilities(outputs, n_bins)
        torch.testing.assert_close(logits, told("logits"), rtol=1e-10, atol=1e-10)
        grid = density(outputs, given[f"input.{case}.grid"])
        torch.testing.assert_close(grid, told("density_on_grid"), rtol=1e-10, atol=1e-10)
        losses = {
            "cross_entropy": torch.nn.functional.cross_entropy(logits, labels),
            "regularisation_times_gamma": penalty(on_grid(outputs), gamma),
        }
        if n_frequencies < n_bins / 2:  # the head refuses others
            head = FourierHead(n_bins=n_bins, gamma=0)
            torch.testing.assert_close(head._mean_loss(outputs, labels), losses["cross_entropy"])
        for name, loss in losses.items():
            torch.testing.assert_close(loss, told(name), rtol=1e-7, atol=1e-12)
            found = torch.autograd.grad(loss, (features, weight, bias), retain_graph=True)
            for part, gradient in zip(("features", "weight", "bias"), found, strict=True):
                assert_relative(gradient, given[f"grad64.{case}.{name}.{part}"], 1e-7, f"{case} {name} {part}")


def test_the_density_is_never_negative_and_has_the_integral_one():
    z = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    values = density(random_outputs(), z)
    assert values.min() >= 0
    np.testing.assert_allclose(torch.trapezoid(values, z, dim=1), 1, atol=1e-6)


def test_the_density_has_the_autocorrelation_as_its_fourier_coefficients():
    outputs, z = random_outputs(), torch.linspace(-1, 1, 50, dtype=torch.float64)
    a = torch.complex(outputs[:, :7], outputs[:, 7:])
    expected = torch.full((20, 50), 0.5, dtype=torch.float64)
    squares = torch.zeros(20, dtype=torch.float64)
    for k in range(1, 7):
        c = (a[:, k:] * a[:, :-k].conj()).sum(dim=1)
        c_0 = a.abs().square().sum(dim=1)
        expected += (c[:, None] / c_0[:, None] * torch.exp(1j * k * np.pi * z)).real
        squares += k**2 * c.abs().square()
    torch.testing.assert_close(density(outputs, z), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(penalty(on_grid(outputs), 0.1), 0.1 * 4 * np.pi**2 * squares.mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n_bins", [13, 18, 40])
def test_without_aliases_the_bins_sum_to_half_their_number(n_bins):
    outputs = random_outputs()
    np.testing.assert_allclose(density(outputs, centres(n_bins, outputs)).sum(dim=1), n_bins / 2)


def test_one_coefficient_is_uniform_a_factor_changes_nothing_and_a_phase_moves():
    alone = torch.zeros(1, 14, dtype=torch.float64)
    alone[0, 4] = 3.0
    z = torch.linspace(-1, 1, 9, dtype=torch.float64)
    np.testing.assert_allclose(density(alone, z), 0.5)
    nothing = (0 * alone).requires_grad_()
    np.testing.assert_allclose(log_probabilities(nothing, 8).detach().exp(), 1 / 8 + 1e-5)
    FourierHead(n_bins=8)._mean_loss(nothing, torch.zeros(1, dtype=torch.int64)).backward()
    assert torch.isfinite(nothing.grad).all()
    outputs = random_outputs(1)
    np.testing.assert_allclose(density(5 * outputs, z), density(outputs, z))
    a = torch.complex(outputs[:, :7], outputs[:, 7:]) * torch.exp(1j * 0.6 * torch.arange(7, dtype=torch.float64))
    moved = density(torch.cat([a.real, a.imag], dim=1), z)
    np.testing.assert_allclose(moved, density(outputs, z + 0.6 / np.pi), atol=1e-12)


@pytest.mark.parametrize(("n_bins", "frequencies"), [(8, 3), (13, 6), (40, 1)])
def test_the_loss_is_the_cross_entropy_of_the_logits_and_its_penalty(n_bins, frequencies):
    outputs, bins = random_outputs(frequencies=frequencies).requires_grad_(), torch.arange(20) % n_bins
    plain = torch.nn.functional.cross_entropy(log_probabilities(outputs, n_bins), bins)
    expected = plain + penalty(on_grid(outputs), 1e-3)
    found = FourierHead(n_bins=n_bins, gamma=1e-3)._mean_loss(outputs, bins)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, outputs)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_with_one_frequency_and_its_constant_the_density_is_a_cosine():
    outputs = random_outputs(frequencies=1)
    z = torch.linspace(-1, 1, 11, dtype=torch.float64)
    real, imaginary = outputs[:, :2], outputs[:, 2:]
    c_1 = torch.complex(real[:, 1], imaginary[:, 1]) * torch.complex(real[:, 0], -imaginary[:, 0])
    height, phase = c_1.abs() / outputs.square().sum(dim=1), c_1.angle()
    expected = 0.5 + height[:, None] * torch.cos(np.pi * z + phase[:, None])
    torch.testing.assert_close(density(outputs, z), expected)
    head = FourierHead([1], n_bins=8).fit(np.zeros((40, 1)), np.arange(40.0) % 8)
    np.testing.assert_allclose(head.probabilities(np.zeros((1, 1))), 1 / 8, atol=1e-3)


def test_finds_a_distribution_of_two_peaks_that_no_mean_tells():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2))
    y = np.where(rng.random(600) < 0.5, -2, 2) + 0.3 * rng.normal(size=600)
    head = FourierHead([4], n_bins=24).fit(X, y)
    found = head.probabilities(X[:20])[:, 0].mean(axis=0)
    centres = (head.edges_[0, 1:] + head.edges_[0, :-1]) / 2
    assert found[np.abs(centres) < 0.6].sum() < 0.1
    assert 0.35 < found[centres > 1].sum() < 0.65


def test_predicts_the_mean_of_its_bins_and_quantiles_that_hold_their_share():
    X, y = load_diabetes(return_X_y=True)
    head = FourierHead([3]).fit(X[::2], y[::2])
    assert head.score(X[1::2], y[1::2]) > 0.3
    centres = (head.edges_[0, 1:] + head.edges_[0, :-1]) / 2
    np.testing.assert_allclose(head.predict(X), head.probabilities(X)[:, 0] @ centres)
    found = head.quantiles(X)[:, 0]
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_allclose((y[:, None] <= found).mean(axis=0), [0.05, 0.25, 0.5, 0.75, 0.95], atol=0.07)
    np.testing.assert_allclose(head.interval(X, 0.9)[1][:, 0], found[:, 4])


def test_the_number_of_frequencies_is_chosen():
    X, y = load_diabetes(return_X_y=True)
    head = FourierHead([1, 4], n_bins=16, max_iter=30).fit(X[:300], y[:300], validation=(X[300:], y[300:]))
    assert head.selection_["on"] == "validation"
    assert [c["n_frequencies"] for c in head.selection_["searched"]] == [1, 4]
    width = 2 * (head.selection_["chosen"]["n_frequencies"] + 1)
    assert head.weight_.shape == (1, width, 10)


def test_frequencies_that_alias_are_refused():
    with pytest.raises(InputError, match="below half the bins, which alias otherwise"):
        FourierHead([16], n_bins=32).check_parameters()
    with pytest.raises(InputError, match="n_bins=1, expected at least 2"):
        FourierHead(n_bins=1).check_parameters()
