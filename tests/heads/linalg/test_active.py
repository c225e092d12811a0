"""Curvature of hinges that is held and kept up, against that of all rows anew."""

import numpy as np
import pytest
import torch

from probe.heads.linalg import active, binary
from probe.heads.linalg.active import ActiveCurvature
from probe.heads.linalg.binary import SquaredHinges
from probe.heads.linalg.eigen import EigenRows
from probe.heads.svm import LinearSVM


def rows(n=300, d=12, K=4, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    return rng.standard_normal((K, d))[y] + spread * rng.standard_normal((n, d)) + 1, y


def summed(features, marks):
    whole = torch.cat([features.chunk(slice(0, len(marks))), torch.ones(len(marks), 1, dtype=features.dtype)], dim=1)
    return torch.stack([whole[m].T @ whole[m] for m in marks.T])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_those_of_the_active_rows_however_they_came_and_went(dtype):
    X, _ = rows()
    features, rng = EigenRows(X.astype(dtype)), np.random.default_rng(1)
    kept = ActiveCurvature(features, len(X), 4)
    marks = torch.from_numpy(rng.random((len(X), 4)) < 0.4)
    for share in (0.0, 0.02, 0.3, 1.0, 0.02):
        marks = marks ^ torch.from_numpy(rng.random(marks.shape) < share)
        kept.update(marks)
        expected = summed(features, marks)
        direction = torch.from_numpy(rng.standard_normal((4, 13)).astype(dtype))
        product = 2 * torch.einsum("kij,kj->ki", expected, direction)
        torch.testing.assert_close(kept.product(direction), product, rtol=1e-4, atol=1e-2)


def test_it_solves_with_the_curvature_at_each_C():
    X, _ = rows()
    features = EigenRows(X)
    marks = torch.from_numpy(np.random.default_rng(1).random((len(X), 4)) < 0.4)
    kept = ActiveCurvature(features, len(X), 4)
    kept.update(marks)
    penalty = torch.diag(torch.cat([torch.ones(12), torch.zeros(1)])).double()
    gradient = torch.from_numpy(np.random.default_rng(2).standard_normal((4, 13)))
    for C in (0.1, 10.0, 0.1):
        hessian = 2 * C * summed(features, marks) + penalty
        found = torch.einsum("kij,kj->ki", hessian, kept.preconditioner(C)(gradient))
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_path_is_the_same_with_and_without_it(dtype, monkeypatch):
    X, y = rows()
    paths = []
    for hard in (0, 10**9):
        monkeypatch.setattr(binary, "HARD", hard)
        paths.append(LinearSVM(Cs=[0.01, 1.0, 100.0], tol=1e-10).fit(X.astype(dtype), y, validation=(X, y)))
    np.testing.assert_allclose(paths[0].coefs_path_, paths[1].coefs_path_, atol=2e-4)


def test_a_label_that_lies_apart_takes_no_more_steps_at_a_large_C():
    """Of as many active rows as features, curvature is nothing like that of all rows."""
    X, y = rows(n=400, d=60, spread=0.7)
    head = LinearSVM(Cs=np.logspace(-3, 3, 7)).fit(X.astype(np.float32), y, validation=(X, y))
    assert head.n_iter_.max() < 40


def test_rows_that_memory_does_not_hold_twice_are_solved_as_before(monkeypatch):
    X, y = rows()
    monkeypatch.setattr(binary, "HARD", 0)
    monkeypatch.setattr(active, "ACTIVE_BYTES", 0)
    assert not ActiveCurvature.fits(EigenRows(X), 4)
    LinearSVM(Cs=[1.0]).fit(X, y)


def test_where_rounding_leaves_no_inverse_the_usual_one_serves(monkeypatch):
    X, y = rows()
    loss = SquaredHinges(EigenRows(X), y[:, None] == np.arange(4))
    monkeypatch.setattr(binary, "HARD", -1)
    monkeypatch.setattr(ActiveCurvature, "preconditioner", lambda self, C: None)
    theta = loss.prior()
    _, gradient = loss.value_and_gradient(theta)
    assert loss.preconditioner(theta, 1.0)(gradient).isfinite().all()
    torch.testing.assert_close(
        loss.hessian_product(theta, gradient),
        2 * torch.einsum("kij,kj->ki", summed(loss.features, loss.kept != 0), gradient),
    )
