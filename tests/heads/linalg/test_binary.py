"""Several labels on the same rows, as one problem."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from probe.heads.linalg.binary import BinaryLosses
from probe.heads.linalg.eigen import EigenRows
from probe.heads.linalg.newton import solve_path


def rows_and_targets(n=300, d=12, K=6, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.5 + 1).astype(dtype)
    targets = (X @ rng.standard_normal((d, K)) + 2 * rng.standard_normal((n, K)) > np.linspace(-1, 4, K)).astype(int)
    return X, targets


def test_value_gradient_and_hessian_are_those_of_the_logistic_losses():
    X, targets = rows_and_targets()
    features = EigenRows(X)
    loss = BinaryLosses(features, targets)
    random = torch.Generator().manual_seed(0)
    theta, direction = torch.randn(2, 6, 13, dtype=torch.float64, generator=random)
    logits = features.chunk(slice(0, 300)) @ theta[:, :-1].T + theta[:, -1]
    value, gradient = loss.value_and_gradient(theta)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(targets).double(), reduction="sum"
    )
    assert value == pytest.approx(expected.item(), rel=1e-12)
    residuals = expit(logits.numpy()) - targets
    np.testing.assert_allclose(gradient[:, -1], residuals.sum(0), atol=1e-9)
    np.testing.assert_allclose(gradient[:, :-1], residuals.T @ features.chunk(slice(0, 300)).numpy(), atol=1e-9)
    product = loss.hessian_product(theta, direction)
    h = 1e-5
    up, down = (loss.value_and_gradient(theta + sign * h * direction)[1] for sign in (1, -1))
    np.testing.assert_allclose(product, (up - down) / (2 * h), rtol=1e-5, atol=1e-6)


def test_every_label_of_the_joint_path_has_the_coefficients_of_its_own_fit():
    X, targets = rows_and_targets()
    features = EigenRows(X)
    Cs = [0.01, 1.0, 100.0]
    solutions = solve_path(BinaryLosses(features, targets), Cs, tol=1e-13, max_iter=100)
    for C, solution in zip(Cs, solutions, strict=True):
        coef, intercept = features.unrotate(solution.theta)
        for k, column in enumerate(targets.T):
            theirs = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(X, column)
            np.testing.assert_allclose(coef[k], theirs.coef_[0], atol=1e-4 * np.abs(theirs.coef_).max())
            assert intercept[k] == pytest.approx(theirs.intercept_[0], abs=1e-3)


def test_the_prior_is_where_coefficients_of_zero_are_best():
    X, targets = rows_and_targets()
    loss = BinaryLosses(EigenRows(X), targets)
    _, gradient = loss.value_and_gradient(loss.prior())
    np.testing.assert_allclose(gradient[:, -1], 0, atol=1e-9)


def test_a_preconditioner_of_equal_probabilities_inverts_the_hessian():
    X, targets = rows_and_targets()
    features = EigenRows(X)
    loss = BinaryLosses(features, targets)
    theta = loss.prior()
    loss.value_and_gradient(theta)
    direction = torch.randn(6, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = 3 * loss.hessian_product(theta, direction)
    product[:, :-1] += direction[:, :-1]
    torch.testing.assert_close(loss.preconditioner(theta, 3.0)(product), direction)
