"""`head=svm head.multi_class=crammer_singer`: all classes by one sum of hinges."""

import numpy as np
import pytest
from known_bayes import correlated, excess_in_standard_errors
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from probe.core.errors import InputError
from probe.heads.shared import crammer_singer
from probe.heads.shared.crammer_singer import hinges
from probe.heads.svm import LinearSVM


def blobs(n=60, d=3, K=3, seed=0, spread=1.5):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    return 2 * rng.standard_normal((K, d))[y] + spread * rng.standard_normal((n, d)) + 1, y


def svm(**parameters):
    return LinearSVM(**{"multi_class": "crammer_singer", "Cs": [1.0], "tol": 1e-8, "max_iter": 100_000} | parameters)


def objective(X, y, coef, intercept, C):
    """Written out once more: hinges of every row against its worst rival, and half of all squares."""
    scores = X @ coef.T + intercept
    worst = [max(max(1 + s[k] - s[c] for k in range(len(s)) if k != c), 0) for s, c in zip(scores, y, strict=True)]
    at_mean = intercept + coef @ X.mean(axis=0)
    return C * sum(worst) + 0.5 * (np.sum(coef**2) + np.sum(at_mean**2))


def least(X, y, C):
    """Of the same problem as a quadratic program with a slack for each row, by another solver."""
    (n, d), K = X.shape, y.max() + 1
    rows = np.column_stack([X - X.mean(axis=0), np.ones(n)])
    constraints = []
    for i, k in ((i, k) for i in range(n) for k in range(K) if k != y[i]):
        line = np.zeros(K * (d + 1) + n)
        line[y[i] * (d + 1) : (y[i] + 1) * (d + 1)] = rows[i]
        line[k * (d + 1) : (k + 1) * (d + 1)] = -rows[i]
        line[K * (d + 1) + i] = 1
        constraints.append(line)
    A, split = np.array(constraints), K * (d + 1)
    found = minimize(
        lambda v: 0.5 / C * v[:split] @ v[:split] + v[split:].sum(),
        np.concatenate([np.zeros(split), np.ones(n)]),
        jac=lambda v: np.concatenate([v[:split] / C, np.ones(n)]),
        constraints={"type": "ineq", "fun": lambda v: A @ v - 1, "jac": lambda v: A},
        bounds=[(None, None)] * split + [(0, None)] * n,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-10},
    )
    assert found.success
    return C * found.fun


@pytest.mark.parametrize("C", [0.01, 1.0, 10.0])
def test_the_objective_is_that_of_another_solver(C):
    X, y = blobs(n=30)
    head = svm(Cs=[C]).fit(X, y)
    assert objective(X, y, head.coef_, head.intercept_, C) == pytest.approx(least(X, y, C), rel=1e-6)


def test_tol_bounds_how_far_the_objective_is_above_its_minimum():
    X, y = blobs(spread=2.5)
    for C in (0.1, 1.0, 10.0):
        near, exact = (svm(Cs=[C], tol=tol).fit(X, y) for tol in (1e-2, 1e-9))
        above = objective(X, y, near.coef_, near.intercept_, C) - objective(X, y, exact.coef_, exact.intercept_, C)
        assert 0 <= above <= 1e-2 * C * len(y)


def test_two_classes_are_one_hinge_with_half_the_penalty():
    X, y = blobs(K=2)
    ours = svm(Cs=[0.5]).fit(X, y)
    centred = X - X.mean(axis=0)
    theirs = LinearSVC(C=1.0, loss="hinge", tol=1e-8, max_iter=100_000, random_state=0).fit(centred, y)
    assert ours.coef_.shape == (1, 3)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(centred), atol=1e-5)


def test_rows_that_are_apart_are_so_by_the_widest_margin_at_a_large_C():
    X, y = blobs(spread=0.1)
    head = svm(Cs=[1e4]).fit(X, y)
    scores = head.logits(X)
    own = scores[np.arange(len(y)), y]
    scores[np.arange(len(y)), y] = -np.inf
    assert (own - scores.max(axis=1)).min() == pytest.approx(1, abs=1e-4)
    assert hinges(head.logits(X), y) < 1e-3
    # The reference itself ends up to a few thousandths above the minimum at so large a C.
    assert objective(X, y, head.coef_, head.intercept_, 1e4) == pytest.approx(least(X, y, 1e4), rel=5e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_turning_or_shifting_the_features_moves_no_score(dtype):
    X, y = blobs()
    Q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    plain = svm().fit(X.astype(dtype), y).logits(X.astype(dtype))
    for other in ((X @ Q).astype(dtype), (X + 5).astype(dtype)):
        np.testing.assert_allclose(svm().fit(other, y).logits(other), plain, atol=1e-4)


def test_fewer_rows_than_features_and_rows_that_are_not_held_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    wide, (X, y) = rng.standard_normal((12, 40)), blobs()
    found = svm(Cs=[0.1]).fit(wide, y[:12])
    assert objective(wide, y[:12], found.coef_, found.intercept_, 0.1) == pytest.approx(
        least(wide, y[:12], 0.1), rel=1e-6
    )
    held = svm().fit(X, y)
    monkeypatch.setattr("probe.heads.linalg.eigen.HOLD_BYTES", 0)
    np.testing.assert_allclose(svm().fit(X, y).coef_, held.coef_, atol=1e-6)


def test_C_is_chosen_on_validation_rows_and_a_class_without_training_rows_is_learnt_in_the_refit():
    X, y = blobs(n=90)
    train = (y < 2) & (np.arange(90) < 60)
    head = svm(Cs=[0.01, 0.1, 1.0]).fit(X[train], y[train], validation=(X[60:], y[60:]))
    assert [one["C"] for one in head.selection_["searched"]] == [0.01, 0.1, 1.0]
    assert (head.intercepts_path_[:, 2] == -np.inf).all()
    assert 2 in head.predict(X)
    assert not hasattr(head, "grad_norms_")
    assert (head.n_iter_ > 1).all()


def test_splits_of_rows_that_share_a_rotation_are_what_they_are_alone():
    X, y = blobs()
    splits = [(np.arange(0, 60, 2), None), (np.arange(40), None)]
    for head, (rows, _) in zip(svm().fit_splits(X, y, splits), splits, strict=True):
        np.testing.assert_allclose(head.coef_, svm().fit(X[rows], y[rows]).coef_, atol=1e-5)


def test_passes_that_ran_out_are_told_with_what_helps():
    X, y = blobs()
    with pytest.warns(
        ConvergenceWarning, match=r"made max_iter = 1 passes and stopped short of tol = 1e-08 for C = 1:"
    ):
        svm(max_iter=1).fit(X, y)


def test_is_near_the_bayes_error_of_gaussians_with_one_covariance():
    head = svm(Cs=[0.01], tol=1e-3)
    assert excess_in_standard_errors(head, correlated(), n_train=2000, n_test=8000) < 4


def test_rows_that_liblinear_has_no_memory_for_are_refused_and_one_against_the_rest_is_not(monkeypatch):
    X, y = blobs()
    monkeypatch.setattr(crammer_singer, "available_bytes", lambda device: 1000)
    with pytest.raises(
        InputError, match=r"GB for 60 rows of 3 features and .* set head\.multi_class=ovr, or fit fewer"
    ):
        svm().fit(X, y)
    svm(multi_class="ovr").fit(X, y)


def test_another_multi_class_is_refused():
    with pytest.raises(InputError, match=r"multi_class is 'ovo', expected .*: set head\.multi_class=ovr"):
        svm(multi_class="ovo").fit(*blobs())
