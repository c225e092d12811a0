"""A program in whose midst something is computed."""

import random

import numpy as np
import pytest
import torch

from probe.core.surroundings import undisturbed


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


@pytest.mark.parametrize("fails", [False, True])
def test_no_random_state_moves(fails):
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    draw()
    expected = [random.getstate(), np.random.get_state(), torch.get_rng_state()]
    try:
        with undisturbed():
            draw()
            torch.manual_seed(7)
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert random.getstate() == expected[0]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), expected[1], strict=True))
    assert torch.equal(torch.get_rng_state(), expected[2])


@pytest.mark.gpu
def test_no_random_state_of_a_gpu_moves():
    torch.rand(1, device="cuda")
    expected = torch.cuda.get_rng_state_all()
    with undisturbed():
        torch.rand(1, device="cuda")
        torch.manual_seed(7)
    assert all(map(torch.equal, torch.cuda.get_rng_state_all(), expected))


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_modes_around_it_are_not_inside(around):
    layer = torch.nn.Linear(2, 2)
    with around():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        with undisturbed():
            output = layer(torch.ones(1, 2))
            assert output.requires_grad
            assert output.dtype == torch.float32
            output.sum().backward()
        assert before == (
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        )  # fmt: skip
