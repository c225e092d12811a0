import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from probe.heads.linalg import eigen, losses, multinomial, recycled
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.multinomial import KroneckerPreconditioner, MultinomialLoss
from probe.heads.linalg.newton import solve_path
from probe.heads.linalg.weighted import WeightedMultinomialLoss


@pytest.fixture(params=["held", "chunked"])
def loss(request, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK_ENTRIES", 40)
    if request.param == "chunked":
        monkeypatch.setattr(eigen, "HOLD_BYTES", 0)
        monkeypatch.setattr(losses, "KEEP_BYTES", 0)
    rng = np.random.default_rng(0)
    return MultinomialLoss(EigenRows(rng.standard_normal((60, 5)) + 1), rng.integers(4, size=60), 4)


def random(seed, scale=1.0):
    return torch.from_numpy(scale * np.random.default_rng(seed).standard_normal((4, 6)))


def rotated(loss):
    return loss.features.leave(loss.features.chunk(slice(0, 60))).numpy()


def reference(theta, X, codes):
    logits = X @ theta[:, :-1].T + theta[:, -1]
    return -log_softmax(logits, axis=1)[np.arange(len(X)), codes].sum()


def test_value_is_the_cross_entropy(loss):
    theta = random(1)
    expected = reference(theta.numpy(), rotated(loss), loss.codes[:, 0].numpy())
    assert loss.value_and_gradient(theta)[0] == pytest.approx(expected, rel=1e-12)


def test_gradient_and_hessian_are_derivatives(loss):
    theta, direction, h = random(1), random(2), 1e-5
    _, gradient = loss.value_and_gradient(theta)
    product = loss.hessian_product(theta, direction)
    up, up_gradient = loss.value_and_gradient(theta + h * direction)
    down, down_gradient = loss.value_and_gradient(theta - h * direction)
    assert (gradient * direction).sum().item() == pytest.approx((up - down) / (2 * h), rel=1e-7)
    np.testing.assert_allclose(product, (up_gradient - down_gradient) / (2 * h), rtol=1e-5, atol=1e-6)


def test_class_curvature_sums_the_covariances_of_the_labels(loss):
    theta = random(1)
    loss.value_and_gradient(theta)
    p = np.exp(log_softmax(rotated(loss) @ theta.numpy()[:, :-1].T + theta.numpy()[:, -1], axis=1))
    np.testing.assert_allclose(loss.class_curvature(theta), np.diag(p.sum(0)) - p.T @ p, atol=1e-10)


def test_float32_keeps_the_digits_of_separated_rows():
    X = np.float32([[-1.0], [1.0]])
    theta = torch.tensor([[-20.0, 0.0], [20.0, 0.0]])
    loss = MultinomialLoss(EigenRows(X), np.array([0, 1]), 2)
    theta[:, 0] *= torch.sign(loss.features.chunk(slice(1, 2))[0, 0])
    value, gradient = loss.value_and_gradient(theta)
    assert value == pytest.approx(2 * np.exp(-40), rel=1e-5)
    assert gradient[:, 0].abs().numpy() == pytest.approx(2 * np.exp(-40), rel=1e-5)
    assert loss.class_curvature(theta)[0, 0].item() == pytest.approx(2 * np.exp(-40), rel=1e-5)


def test_the_preconditioner_inverts_the_hessian_where_probabilities_are_equal():
    rng = np.random.default_rng(0)
    loss = MultinomialLoss(EigenRows(rng.standard_normal((60, 5))), rng.integers(4, size=60), 4)
    theta, C = torch.zeros(4, 6, dtype=torch.float64), 3.0
    loss.value_and_gradient(theta)
    invert = KroneckerPreconditioner(loss.class_curvature(theta), loss.features.eigenvalues, C)
    direction = random(2) - random(2).mean(0)
    product = C * loss.hessian_product(theta, direction)
    product[:, :-1] += direction[:, :-1]
    np.testing.assert_allclose(invert(product), direction, atol=1e-10)


def test_own_curvature_is_the_diagonal_of_that_of_the_classes(loss):
    theta = random(1)
    loss.value_and_gradient(theta)
    torch.testing.assert_close(loss.own_curvature(theta), loss.class_curvature(theta).diagonal())


def test_own_curvature_of_weighted_rows_is_the_diagonal_too():
    rng = np.random.default_rng(0)
    rows = EigenRows(rng.standard_normal((60, 5)) + 1)
    weighted = WeightedMultinomialLoss(rows, rng.integers(4, size=60), np.array([0.5, 1.0, 2.0, 3.0]))
    theta = random(1)
    weighted.value_and_gradient(theta)
    torch.testing.assert_close(weighted.own_curvature(theta), weighted.class_curvature(theta).diagonal())


def test_many_classes_end_at_the_same_optimum_without_a_matrix_of_classes(monkeypatch):
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(30), rng.integers(30, size=170)])
    features = EigenRows(rng.standard_normal((30, 8))[codes] + rng.standard_normal((200, 8)))
    loss, Cs = MultinomialLoss(features, codes, 30), [0.01, 1.0]
    expected = solve_path(loss, Cs, tol=1e-8, max_iter=50)
    monkeypatch.setattr(multinomial, "MANY_CLASSES", 10)
    monkeypatch.setattr(loss, "class_curvature", None)
    for kept in (0, 2**28):
        monkeypatch.setattr(recycled, "KEPT_BYTES", kept)
        found = solve_path(loss, Cs, tol=1e-8, max_iter=50)
        assert all(solution.converged for solution in found)
        for C, a, b in zip(Cs, found, expected, strict=True):
            assert a.value == pytest.approx(b.value, abs=2e-8 * C * 200)


def test_residuals_kept_in_bfloat16_move_no_optimum_and_no_score_that_all_share(monkeypatch):
    monkeypatch.setattr(eigen, "fast_bfloat16", lambda device: True)
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(30), rng.integers(30, size=170)])
    X = (rng.standard_normal((30, 8))[codes] + rng.standard_normal((200, 8))).astype(np.float32)
    features, Cs = EigenRows(X), [0.01, 1.0]
    exact = MultinomialLoss(features, codes, 30)
    monkeypatch.setattr(losses, "KEEP_BYTES", 2 * 200 * 30)
    narrow = MultinomialLoss(features, codes, 30)
    assert (exact.kept.dtype, narrow.kept.dtype) == (torch.float32, torch.bfloat16)
    pairs = zip(*(solve_path(loss, Cs, tol=1e-6, max_iter=50) for loss in (exact, narrow)), strict=True)
    for C, (expected, found) in zip(Cs, pairs, strict=True):
        assert found.converged
        assert found.value == pytest.approx(expected.value, abs=2e-6 * C * 200)
    theta = narrow.prior()
    narrow.value_and_gradient(theta)
    alike = torch.ones_like(theta)
    assert narrow.hessian_product(theta, alike).abs().max() < 1e-5 * exact.counts.max()
