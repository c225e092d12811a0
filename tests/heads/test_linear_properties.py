"""What the linear-probe card asks of `linear` and `linear_sgd` beyond agreement with scikit-learn."""

import numpy as np
import pytest
import torch
from known_bayes import correlated, diagonal, excess_in_standard_errors, isotropic
from sklearn.datasets import load_digits
from timm.optim import Lamb, Lars
from torch.nn import functional

from probe.heads.linear import LinearProbe
from probe.heads.linear_sgd import LinearSGD
from probe.heads.shared.linear_sgd_solver import SOLVERS


def digits(n=600):
    X, y = load_digits(return_X_y=True)
    return (X[:n] / 16 - 0.3).astype(np.float32), y[:n]


def exact(C=1.0, **parameters):
    return LinearProbe(Cs=[C], tol=1e-12, **parameters)


def test_lambda_is_one_over_C_times_rows():
    X, y = digits()
    head = exact(0.3).fit(X, y)
    W, b = (torch.from_numpy(np.float64(part)).requires_grad_() for part in (head.coef_, head.intercept_))
    loss = functional.cross_entropy(torch.from_numpy(np.float64(X)) @ W.T + b, torch.from_numpy(y))
    (loss + W.square().sum() / (0.3 * len(y)) / 2).backward()
    assert W.grad.norm() < 1e-6 * W.norm()
    assert b.grad.norm() < 1e-6


def test_units_of_features_are_not_neutral_and_neither_is_standardisation():
    X, y = digits()
    scaled = X * np.geomspace(0.1, 10, 64, dtype=np.float32)
    plain = exact().fit(X, y).predict_proba(X)
    assert np.abs(exact().fit(scaled, y).predict_proba(scaled) - plain).max() > 0.05
    assert np.abs(exact(scaling="standard").fit(X, y).predict_proba(X) - plain).max() > 0.05
    standard = exact(scaling="standard")
    np.testing.assert_allclose(
        standard.fit(scaled, y).predict_proba(scaled), standard.fit(X, y).predict_proba(X), atol=1e-4
    )


def test_a_constant_feature_is_no_second_intercept():
    X, y = digits()
    padded = np.column_stack([X, np.ones(len(X), np.float32)])
    head = exact().fit(padded, y)
    # Penalised where the intercept is free: it gets nothing.
    np.testing.assert_allclose(head.coef_[:, -1], 0, atol=1e-6)
    np.testing.assert_allclose(head.logits(padded), exact().fit(X, y).logits(X), atol=1e-4)


def test_a_duplicated_feature_is_not_counted_twice():
    X, y = digits()
    one = exact(1e4).fit(X, y)
    two = exact(1e4).fit(np.column_stack([X, X[:, 20]]), y)
    np.testing.assert_allclose(two.coef_[:, 20], two.coef_[:, 64], atol=1e-3 * np.abs(two.coef_).max())
    assert (two.predict(np.column_stack([X, X[:, 20]])) == one.predict(X)).all()


def test_long_training_ends_at_the_optimum_of_the_path():
    X, y = digits()
    C = 0.05
    path = exact(C).fit(X, y)
    head = LinearSGD(lrs=[2.0], weight_decay=1 / (C * len(y)), epochs=300, batch_size=len(y)).fit(X, y)
    centred = [logits - logits.mean(axis=1, keepdims=True) for logits in (head.logits(X), path.logits(X))]
    np.testing.assert_allclose(*centred, atol=0.01 * np.ptp(centred[1]))
    assert (head.predict(X) == path.predict(X)).mean() > 0.995


@pytest.mark.parametrize("solver", SOLVERS)
def test_mini_batches_bear_single_row_classes_and_constant_features(solver):
    X, y = np.zeros((12, 5), np.float32), np.arange(12)
    for rows in (X, X + 7, np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)):
        for scaling in ("none", "standard", "l2"):
            head = LinearSGD(solver=solver, lrs=[0.1, 1.0], scaling=scaling, epochs=3, batch_size=5).fit(rows, y)
            assert np.isfinite(head.predict_proba(rows)).all()


def test_momentum_decay_and_rates_of_lars_are_read():
    X, y = digits()
    plain = {"solver": "lars", "lrs": [3.0], "epochs": 2, "batch_size": 100}
    logits = [
        LinearSGD(**plain | change).fit(X, y).logits(X) for change in ({}, {"momentum": 0.0}, {"weight_decay": 0.1})
    ]
    assert np.abs(logits[0] - logits[1]).max() > 0.01
    assert np.abs(logits[0] - logits[2]).max() > 0.01


@pytest.mark.parametrize("solver", ["lars", "lamb"])
def test_takes_the_steps_of_timms_optimizers_on_autograd_gradients(solver):
    X, y = digits()
    rates = (1.0, 4.0) if solver == "lars" else (0.003, 0.02)
    options = {"weight_decay": 0.05, "epochs": 3, "batch_size": 200}
    head = LinearSGD(solver=solver, lrs=rates, refit=False, **options).fit(X, y, validation=(X, y))
    for i, rate in enumerate(rates):
        W = (0.01 * torch.randn(10, 64, generator=torch.Generator().manual_seed(0))).requires_grad_()
        b = torch.zeros(10, requires_grad=True)
        groups = [{"params": [W], "weight_decay": 0.05}, {"params": [b], "weight_decay": 0.0}]
        optimizer = Lars(groups, momentum=0.9) if solver == "lars" else Lamb(groups, max_grad_norm=None)
        random, step = np.random.default_rng(0), 0
        for _ in range(3):
            for rows in np.split(random.permutation(600), 3):
                for group in optimizer.param_groups:
                    group["lr"] = rate * 0.5 * (1 + np.cos(np.pi * step / 9))
                optimizer.zero_grad()
                functional.cross_entropy(torch.from_numpy(X[rows]) @ W.T + b, torch.from_numpy(y[rows])).backward()
                optimizer.step()
                step += 1
        np.testing.assert_allclose(head.coefs_[i], W.detach(), atol=1e-4)
        np.testing.assert_allclose(head.intercepts_[i], b.detach(), atol=1e-4)


@pytest.mark.parametrize("gaussians", [isotropic(), diagonal(), correlated()], ids=["isotropic", "diagonal", "corr"])
def test_any_shared_covariance_is_within_reach_also_where_naive_bayes_stays_behind(gaussians):
    assert abs(excess_in_standard_errors(exact(0.1, scaling="standard"), gaussians)) < 3


def test_weight_decay_leaves_the_intercepts_alone():
    X, y = np.zeros((300, 4), np.float32), np.repeat([0, 1, 2], [200, 60, 40])
    for solver, lr in (("sgd", 1.0), ("adamw", 0.1)):
        head = LinearSGD(solver=solver, lrs=[lr], weight_decay=1.0, epochs=100, batch_size=300).fit(X, y)
        np.testing.assert_allclose(head.predict_proba(X[:1])[0], [2 / 3, 0.2, 2 / 15], atol=0.01)
