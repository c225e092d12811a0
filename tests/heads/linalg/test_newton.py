import numpy as np
import pytest
import torch

from probe.heads.linalg import recycled
from probe.heads.linalg.conjugate import smallest_ritz_value
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.multinomial import MultinomialLoss
from probe.heads.linalg.newton import _extrapolate, solve_path


def problem(noise=1.0):
    rng = np.random.default_rng(0)
    y = np.arange(400) % 5
    X = (rng.standard_normal((5, 20))[y] + noise * rng.standard_normal((400, 20))) * np.arange(1, 21) ** -0.5
    return MultinomialLoss(EigenRows(X.astype(np.float32)), y, 5)


def test_a_warm_path_ends_where_cold_solves_end():
    loss = problem(3.0)
    Cs = list(np.logspace(-3, 3, 13))
    for C, solution in zip(Cs, solve_path(loss, Cs, tol=1e-7, max_iter=50), strict=True):
        (cold,) = solve_path(loss, [C], tol=1e-9, max_iter=100)
        assert solution.converged
        assert solution.value <= cold.value * (1 + 1e-7)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_the_estimated_gap_is_the_gap_within_a_small_factor(noise):
    loss = problem(noise)
    Cs = list(np.logspace(-3, 4, 8))
    loose, tight = (solve_path(loss, Cs, tol=tol, max_iter=100) for tol in (1e-3, 1e-10))
    for near, optimum in zip(loose, tight, strict=True):
        assert near.value - optimum.value <= 6 * near.gap + 1e-7 * optimum.value


def test_a_warm_start_at_the_solution_takes_no_step():
    loss = problem()
    (solution,) = solve_path(loss, [1.0], tol=1e-9, max_iter=50)
    (again,) = solve_path(loss, [1.0], tol=1e-8, max_iter=50, start=solution.theta)
    assert again.n_iter == 0


def test_what_one_C_taught_saves_products_at_the_next(monkeypatch):
    products = []

    def count(kept):
        monkeypatch.setattr(recycled, "KEPT", kept)
        loss = problem(1.0)
        multiply, n = loss.hessian_product, len(products)
        monkeypatch.setattr(loss, "hessian_product", lambda *args: (products.append(1), multiply(*args))[1])
        solve_path(loss, list(np.logspace(-3, 3, 25)), tol=1e-6, max_iter=100)
        return len(products) - n

    assert count(20) < 0.8 * count(0)


def test_recycled_curvature_is_exact_along_the_latest_direction():
    rng = np.random.default_rng(0)
    root = torch.from_numpy(rng.standard_normal((15, 15)))
    memory = recycled.RecycledCurvature()
    for _ in range(3):
        direction = torch.from_numpy(rng.standard_normal((3, 5)))
        memory.remember([(direction, (root @ root.T @ direction.reshape(-1)).reshape(3, 5))])
    product = 3 * (root @ root.T @ direction.reshape(-1)).reshape(3, 5)
    product[:, :-1] += direction[:, :-1]
    step = memory.preconditioner(lambda gradient: gradient, 3.0)(product)
    torch.testing.assert_close(step, direction)


def test_known_logits_give_the_same_value_and_gradient():
    loss = problem()
    theta = torch.randn(5, 21, generator=torch.Generator().manual_seed(0))
    value, gradient = loss.value_and_gradient(theta)
    logits = loss.logits
    again, same = loss.value_and_gradient(theta, logits.clone())
    assert again == value
    torch.testing.assert_close(same, gradient, rtol=0, atol=0)
    torch.testing.assert_close(loss.logits, logits, rtol=0, atol=0)


def test_extrapolation_is_exact_for_parabolas():
    xs = np.array([0.0, 0.5, 2.0])
    thetas = [torch.tensor([1 + 2 * x - 3 * x**2]) for x in xs]
    assert _extrapolate(xs, thetas, 3.0).item() == pytest.approx(1 + 6 - 27, rel=1e-5)


def test_ritz_values_come_from_conjugate_gradients():
    A = np.diag([0.25, 1.0, 3.0])
    residual = np.ones(3)
    conjugate, steps, ratios = residual, [], []
    for _ in range(3):
        steps.append(residual @ residual / (conjugate @ A @ conjugate))
        new = residual - steps[-1] * A @ conjugate
        ratios.append(new @ new / (residual @ residual))
        conjugate, residual = new + ratios[-1] * conjugate, new
    assert smallest_ritz_value(np.array(steps), np.array(ratios[:-1])) == pytest.approx(0.25)


def test_no_more_is_held_than_the_directions_that_are_kept(monkeypatch):
    monkeypatch.setattr(recycled, "KEPT", 3)
    curvature, numbers = recycled.RecycledCurvature(), iter(range(100))
    for n_seen in (2, 2, 5, 1):
        seen = [(torch.full((2, 3), float(next(numbers))), torch.zeros(2, 3)) for _ in range(n_seen)]
        curvature.remember(seen)
    held = curvature._directions
    assert held[:, 0, 0].tolist() == [7, 8, 9]
    assert held.untyped_storage().nbytes() == held.nbytes
