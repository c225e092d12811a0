import numpy as np
import pytest
import torch

from probe.heads.linalg import likely, losses, multinomial
from probe.heads.linalg.conjugate import conjugate_gradients
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.likely import LikelyClasses, LikelyPreconditioner, least_kept
from probe.heads.linalg.multinomial import MultinomialLoss
from probe.heads.linalg.newton import solve_path
from probe.heads.linalg.weighted import WeightedMultinomialLoss

K = 30


def problem(kind="plain", noise=1.0):
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(K), rng.integers(K, size=170)])
    features = EigenRows(rng.standard_normal((K, 8))[codes] + noise * rng.standard_normal((200, 8)))
    if kind == "weighted":
        return WeightedMultinomialLoss(features, codes, rng.uniform(0.5, 2, size=K))
    return MultinomialLoss(features, codes, K)


def theta_of(loss, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((K, loss.features.rank + 1)))


def likely_at(loss, theta):
    loss.value_and_gradient(theta)
    return LikelyClasses(loss.features, loss.likely(theta), loss.own_curvature(theta))


@pytest.mark.parametrize("kind", ["plain", "weighted"])
def test_with_all_classes_kept_it_is_the_hessian(monkeypatch, kind):
    monkeypatch.setattr(likely, "ALL_BUT", 0.0)
    loss = problem(kind)
    theta, direction = theta_of(loss), theta_of(loss, 2)
    found = likely_at(loss, theta).product(direction)
    torch.testing.assert_close(found, loss.hessian_product(theta, direction))


@pytest.mark.parametrize("kind", ["plain", "weighted"])
def test_what_is_kept_is_never_more_than_the_hessian(monkeypatch, kind):
    monkeypatch.setattr(likely, "PAIRS_PER_ROW", 3)
    loss = problem(kind)
    theta = theta_of(loss)
    kept = likely_at(loss, theta)
    kept._rest.zero_()
    for seed in range(5):
        direction = theta_of(loss, 2 + seed)
        least, whole = (
            (direction * f(direction)).sum() for f in (kept.product, lambda d: loss.hessian_product(theta, d))
        )
        assert 0.5 * whole < least <= whole


def test_scores_that_all_move_alike_have_no_curvature_whatever_is_left_out(monkeypatch):
    monkeypatch.setattr(likely, "PAIRS_PER_ROW", 3)
    loss = problem()
    theta, direction = theta_of(loss), theta_of(loss, 2)
    kept = likely_at(loss, theta)
    assert kept._rest.max() > 0
    moved = kept.product(direction - direction.mean(0))
    torch.testing.assert_close(moved.mean(0), torch.zeros_like(moved[0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_pairs", [2, 5])
def test_what_a_solve_lacks_is_told(monkeypatch, n_pairs):
    monkeypatch.setattr(likely, "PAIRS_PER_ROW", n_pairs)
    loss = problem()
    theta, right = theta_of(loss), theta_of(loss, 2)
    kept, right = likely_at(loss, theta), right - right.mean(0)
    plain = multinomial.DiagonalPreconditioner(loss.own_curvature(theta), loss.features.eigenvalues, 5.0)
    exact = conjugate_gradients(kept.product, right, 5.0, plain, 1e-10, max_steps=1000).solution
    for accuracy in (0.5, 0.2, 0.05):
        monkeypatch.setattr(likely, "ACCURACY", accuracy)
        step, lacking = LikelyPreconditioner(kept, plain, 5.0).within(right)
        error = float((right * exact).sum() - (right * step).sum())
        assert 0 <= error <= 1.5 * lacking


def test_probabilities_that_are_all_alike_do_not_pay():
    alike = torch.full((50, 10_000), 1e-4)
    assert least_kept(alike) is None
    alike[:, :5] = 0.3
    assert least_kept(alike) == pytest.approx(1e-4)


@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("n_pairs", [3, 6])
def test_few_pairs_end_at_the_same_optimum_and_say_how_near(monkeypatch, noise, n_pairs):
    loss, Cs = problem(noise=noise), [0.01, 1.0, 30.0]
    exact = solve_path(loss, Cs, tol=1e-12, max_iter=50)
    monkeypatch.setattr(multinomial, "MANY_CLASSES", 10)
    monkeypatch.setattr(likely, "PAIRS_PER_ROW", n_pairs)
    monkeypatch.setattr(likely, "LEAST_KEPT", 0.3)
    used = []
    solve = LikelyPreconditioner.within
    monkeypatch.setattr(LikelyPreconditioner, "within", lambda self, g: used.append(1) or solve(self, g))
    for found, optimum in zip(solve_path(loss, Cs, tol=1e-6, max_iter=50), exact, strict=True):
        assert found.converged
        assert found.value - optimum.value <= 1.1 * found.gap + 1e-9  # an estimate
    assert used


def test_parts_of_a_chunk_give_the_same_sums(monkeypatch):
    loss = problem("weighted")
    theta, direction = theta_of(loss), theta_of(loss, 2)
    value, gradient = loss.value_and_gradient(theta)
    product = loss.hessian_product(theta, direction)
    monkeypatch.setattr(losses, "MANY_SCORES", 10)
    monkeypatch.setattr(losses, "PART_ENTRIES", 7 * K)
    loss = problem("weighted")
    assert loss.part == 7
    parted, same = loss.value_and_gradient(theta)
    assert parted == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(same, gradient)
    torch.testing.assert_close(loss.hessian_product(theta, direction), product)


def test_conjugate_gradients_return_the_latest_curvatures_alone():
    matrix = torch.diag(torch.arange(1.0, 13.0, dtype=torch.float64)).reshape(12, 3, 4)
    right = torch.ones(3, 4, dtype=torch.float64)

    def product(direction):
        return torch.tensordot(direction.flatten(), matrix, 1)

    solution, softest, seen, left = conjugate_gradients(product, right, 2.0, lambda g: g, 1e-6, keep=2)
    again = 2 * product(solution)
    again[:, :-1] += solution[:, :-1]
    torch.testing.assert_close(again, right, rtol=0, atol=1e-4)
    assert softest == pytest.approx(3.0, rel=1e-3)
    assert left == pytest.approx(float((right - again).square().sum()), rel=1e-3, abs=1e-10)
    assert len(seen) == 2
    torch.testing.assert_close(seen[-1][1], product(seen[-1][0]))
