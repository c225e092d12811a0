import pytest
import torch
from torch.nn import functional

from probe.heads.shared.moment_convolutions import centred_phases, convolved_moments, unit_columns
from probe.heads.shared.token_moments import centre_groups, normalize_columns


def setting(n_groups=3, n_tokens=5, width=11, outputs=(4, 5), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    pairs = max(1, n_groups - 1)
    shapes = (4, n_groups, n_tokens, width), (outputs[0], pairs, 3, 3), (outputs[1], outputs[0], 3, 3)
    return [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for shape in shapes]


def in_phases(groups):
    """(G, B, T, 4, q) of groups (B, G, T, d), zeros beyond d."""
    filled = functional.pad(groups.transpose(0, 1), (0, -groups.shape[3] % 4))
    return filled.unflatten(3, (-1, 4)).mT.contiguous()


def by_factors(groups, first, second, dtype=None):
    return convolved_moments(in_phases(groups), groups.shape[3], first, second, dtype)


def by_maps(groups, first, second):
    pairs = first.shape[1]
    maps = normalize_columns(groups[:, :pairs].mT @ groups[:, -pairs:])
    return functional.conv2d(functional.gelu(functional.conv2d(maps, first, stride=2)), second, stride=2)


@pytest.mark.parametrize("n_groups", [1, 2, 3])
@pytest.mark.parametrize("width", [7, 8, 9, 10, 13, 16])
def test_outputs_and_gradients_are_those_of_convolutions_of_the_maps(width, n_groups):
    given = setting(n_groups, width=width)
    with torch.no_grad():
        given[0][:, :, :, 3] = 0  # columns of zeros
    expected, found = by_maps(*given), by_factors(*given)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    for a, b in zip(*(torch.autograd.grad(y, given, weights) for y in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_are_no_further_off_than_those_of_tokens_that_are_rounded():
    """Of tokens that differ by a hundredth: what is in single precision backwards costs no digits that they have."""
    given = setting(n_tokens=9, width=32)
    with torch.no_grad():
        given[0].copy_(given[0][:, :, :1] + 0.01 * given[0])
    gradients = []
    for groups in (given[0].float().double(), given[0], given[0].float()):
        inputs = [tensor.detach().to(groups.dtype).requires_grad_() for tensor in (groups, *given[1:])]
        gradients.append([g.double() for g in torch.autograd.grad(by_factors(*inputs).square().sum(), inputs)])
    exact, rounded, single = gradients
    for a, b, c in zip(exact, rounded, single, strict=True):
        assert (c - a).norm() < 3 * (b - a).norm() + 1e-6 * a.norm()


def test_products_in_bfloat16_are_near():
    given = setting(dtype=torch.float32)
    expected, found = by_factors(*given), by_factors(*given, torch.bfloat16)
    assert found.dtype == torch.float32
    assert 1e-5 < (found - expected).norm() / expected.norm() < 0.02


@pytest.mark.parametrize("second_moment", ["as_released", "centred"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("width", [7, 8, 9, 10])
def test_phases_and_their_gradients_are_those_of_centred_groups(second_moment, masked, width):
    groups = setting(width=width)[0]
    mask = torch.arange(5) < torch.tensor([5, 2, 1, 4])[:, None] if masked else None
    expected = in_phases(centre_groups(groups, second_moment, mask))
    found = centred_phases(groups.transpose(1, 2), second_moment, mask)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    for a, b in zip(*(torch.autograd.grad(y, groups, weights) for y in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("n_tokens", [1, 5, 20])
def test_unit_columns_are_those_of_the_product(n_tokens):
    phases = in_phases(setting(n_tokens=n_tokens, dtype=torch.float32)[0].detach())
    phases[1:, :, :, 1, 0] = 0  # columns of zeros
    left, right = phases[:2].flatten(3), phases[1:].flatten(3)
    found = unit_columns(phases)[0].flatten(3)
    torch.testing.assert_close(left.mT @ found, normalize_columns(left.mT @ right))


def test_norms_of_columns_whose_tokens_nearly_cancel_keep_their_digits():
    # Two tokens that differ by a thousandth on one side, and are opposite on the other.
    left = torch.randn(1, 1, 8, dtype=torch.float64).repeat(1, 2, 1)
    left[:, 1] += 1e-3 * torch.randn(8, dtype=torch.float64)
    right = torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 2, 1).repeat(1, 1, 8)
    phases = torch.stack([left, right]).float().view(2, 1, 2, 4, 2)
    columns = phases[0].flatten(2).double().mT @ unit_columns(phases)[0][0].flatten(2).double()
    norms = columns.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-6, rtol=0)
