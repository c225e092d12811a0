import warnings

import numpy as np
import pytest
from known_bayes import correlated, curved, excess_in_standard_errors
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from probe.core.errors import InputError
from probe.heads.svm import LinearSVM


def contract_case():
    return {"Cs": [0.01, 1.0]}


def recipe_case():
    """Where rows are told apart, large C leave the solution to the tolerance, and that to the processor."""
    return {"Cs": [0.001, 0.01], "tol": 1e-14}


def wine():
    X, y = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def blobs(n=400, d=12, K=4, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    return rng.standard_normal((K, d))[y] + 1.5 * rng.standard_normal((n, d)) + 1, y


def objective(X, y, coef, intercept, C):
    """C times the squared hinges of every class against the others, and half the squared length."""
    classes = np.unique(y)
    signs = np.where(y[:, None] == (classes if len(coef) > 1 else classes[1:]), 1, -1)
    scores = X.astype(np.float64) @ coef.astype(np.float64).T + intercept
    return C * (np.maximum(0, 1 - signs * scores) ** 2).sum() + 0.5 * (coef.astype(np.float64) ** 2).sum()


def liblinear(X, y, C, tol=1e-8):
    """Its optimum; a large `intercept_scaling` makes little of its penalty on the intercept."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LinearSVC(C=C, dual=False, tol=tol, intercept_scaling=1000, max_iter=3000).fit(X, y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("load", [wine, blobs, lambda: load_breast_cancer(return_X_y=True)], ids=["wine", "4", "2"])
def test_every_objective_of_the_path_is_at_most_liblinears(load, dtype):
    X, y = load()
    X = StandardScaler().fit_transform(X).astype(dtype)
    head = LinearSVM(Cs=[1e-3, 0.01, 0.1, 1.0, 10.0]).fit(X, y, validation=(X, y))
    for C, coef, intercept in zip(head.Cs_, head.coefs_path_, head.intercepts_path_, strict=True):
        theirs = liblinear(X, y, C)
        least = objective(X, y, theirs.coef_, theirs.intercept_, C)
        assert objective(X, y, coef, intercept, C) <= least * (1 + 1e-6)


def test_coefficients_are_those_of_liblinears_optimum():
    for X, y in (blobs(), blobs(K=2)):
        ours, theirs = LinearSVM(Cs=[0.1], tol=1e-13).fit(X, y), liblinear(X, y, 0.1, 1e-12)
        assert ours.coef_.shape == theirs.coef_.shape
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
        np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-4)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def test_the_gradient_certifies_how_far_the_optimum_is():
    X, y = blobs()
    head = LinearSVM(Cs=7).fit(X, y, validation=(X, y))
    best = LinearSVM(Cs=7, tol=1e-14).fit(X, y, validation=(X, y))
    for i, C in enumerate(head.Cs_):
        above = objective(X, y, head.coefs_path_[i], head.intercepts_path_[i], C) - objective(
            X, y, best.coefs_path_[i], best.intercepts_path_[i], C
        )
        assert -1e-9 * C <= above <= 1e-8 * C * len(y)


@pytest.mark.parametrize("K", [2, 4])
def test_the_norm_of_the_gradient_is_that_of_the_objective(K):
    X, y = blobs(K=K)
    head = LinearSVM(Cs=[0.01, 1.0], tol=1e-4).fit(X, y, validation=(X, y))
    for C, coef, intercept, norm in zip(
        head.Cs_, head.coefs_path_, head.intercepts_path_, head.grad_norms_, strict=True
    ):
        signs = np.where(y[:, None] == np.arange(K)[-len(coef) :], 1, -1)
        short = -2 * C * signs * np.maximum(0, 1 - signs * (X @ coef.T + intercept))
        by_coef = short.T @ X + coef - short.sum(axis=0)[:, None] * X.mean(axis=0)
        assert norm == pytest.approx(np.sqrt((by_coef**2).sum() + (short.sum(axis=0) ** 2).sum()), rel=1e-3)


def test_scaling_the_features_and_dividing_C_by_the_square_moves_no_prediction():
    X, y = blobs()
    plain, scaled = LinearSVM(Cs=[0.4], tol=1e-12).fit(X, y), LinearSVM(Cs=[0.1], tol=1e-12).fit(2 * X, y)
    np.testing.assert_allclose(plain.logits(X), scaled.logits(2 * X), atol=1e-5)


def test_a_large_C_separates_with_the_widest_margin():
    X, y = blobs(n=40, d=30, K=2)
    head = LinearSVM(Cs=[1e6], tol=1e-13).fit(X, y)
    margins = np.where(y == 1, 1, -1) * head.decision_function(X)
    assert margins.min() == pytest.approx(1, abs=1e-3)
    from sklearn.svm import SVC

    hard = SVC(kernel="linear", C=1e6, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(head.coef_, hard.coef_, atol=2e-3 * np.abs(hard.coef_).max())


def test_rotating_or_shifting_the_features_moves_no_score():
    X, y = blobs()
    Q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))
    plain = LinearSVM(Cs=[1.0], tol=1e-12).fit(X, y).logits(X)
    for other in (X @ Q, X + 5):
        np.testing.assert_allclose(LinearSVM(Cs=[1.0], tol=1e-12).fit(other, y).logits(other), plain, atol=1e-5)


def test_is_near_the_bayes_error_of_gaussians_with_one_covariance_and_misses_that_of_two():
    head = LinearSVM(Cs=[0.1])
    assert excess_in_standard_errors(head, correlated(), n_train=4000, n_test=8000) < 4
    assert excess_in_standard_errors(head, *curved(), n_train=4000, n_test=8000) > 6


def test_poisoned_test_rows_change_no_fit_and_a_class_without_training_rows_is_learnt_in_the_refit():
    X, y = blobs()
    train = y < 3
    head = LinearSVM(Cs=[0.1, 1.0]).fit(X[train], y[train], validation=(X[200:], y[200:]))
    assert list(head.classes_) == [0, 1, 2, 3]
    assert (head.intercepts_path_[:, 3] == -np.inf).all()
    assert 3 in head.predict(X)
    before = head.coef_.copy()
    head.predict(np.full((5, 12), 1e6))
    np.testing.assert_array_equal(head.coef_, before)


def test_a_solver_that_stops_short_says_so():
    X, y = blobs()
    with pytest.warns(ConvergenceWarning, match="the solver stopped short of tol for C = 100"):
        LinearSVM(Cs=[100.0], max_iter=1).fit(X, y)


def test_unknown_settings_are_refused():
    with pytest.raises(InputError, match="scaling is 'max', expected one of none, standard, l2"):
        LinearSVM(scaling="max").fit(*blobs())
