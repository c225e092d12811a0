import pytest
import torch
from torch.nn import functional

from probe.heads.shared.token_moments import (
    convolve_product,
    cross_moments,
    moment_factors,
    normalize_columns,
    unit_columns,
)


def factors(n_tokens=5, width=11, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    groups = torch.randn(4, 3, n_tokens, width, generator=generator, dtype=dtype)
    return moment_factors(groups, "as_released")


@pytest.mark.parametrize("width", [7, 8, 11])
def test_a_convolution_of_factors_and_its_gradients_are_those_of_the_product(width):
    left, right = (factor.detach().requires_grad_() for factor in factors(width=width))
    kernel = torch.randn(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    expected = functional.conv2d(left.transpose(2, 3) @ right, kernel, stride=2)
    found = convolve_product(left, right, kernel)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    for a, b in zip(*(torch.autograd.grad(y, (left, right, kernel), weights) for y in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("n_tokens", [1, 5, 20])
def test_unit_columns_are_those_of_the_product(n_tokens):
    left, right = factors(n_tokens, dtype=torch.float32)
    right = right.clone()
    right[:, :, :, 3] = 0
    torch.testing.assert_close(
        left.transpose(2, 3) @ unit_columns(left, right), normalize_columns(left.transpose(2, 3) @ right)
    )


@pytest.mark.parametrize("n_tokens", [1, 5])
def test_gradients_of_unit_columns_are_those_of_the_product(n_tokens):
    left, right = (factor.detach().clone().requires_grad_() for factor in factors(n_tokens))
    with torch.no_grad():
        right[:, :, :, 3] = 0
    found = left.transpose(2, 3) @ unit_columns(left, right)
    expected = normalize_columns(left.transpose(2, 3) @ right)
    weights = torch.randn_like(expected)
    for a, b in zip(*(torch.autograd.grad(C, (left, right), weights) for C in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_norms_of_columns_whose_tokens_nearly_cancel_keep_their_digits():
    # Two tokens that differ by a thousandth on one side, and are opposite on the other.
    left = torch.randn(1, 1, 1, 8, dtype=torch.float64).repeat(1, 1, 2, 1)
    left[:, :, 1] += 1e-3 * torch.randn(8, dtype=torch.float64)
    right = torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 1, 2, 1).repeat(1, 1, 1, 8)
    left, right = left.float(), right.float()
    norms = (left.double().transpose(2, 3) @ unit_columns(left, right).double()).norm(dim=2)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-6, rtol=0)


def test_factors_multiply_to_cross_moments():
    groups = torch.randn(4, 3, 5, 11)
    left, right = moment_factors(groups, "centred")
    torch.testing.assert_close(left.transpose(2, 3) @ right, cross_moments(groups, "centred"))
