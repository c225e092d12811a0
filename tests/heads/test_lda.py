import numpy as np
import pytest
from known_bayes import Gaussians, correlated, diagonal, excess_in_standard_errors, offline_accuracies
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from probe.errors import InputError
from probe.heads.lda import LinearDiscriminant


def residuals(X, y):
    return X - np.array([X[y == k].mean(axis=0) for k in np.unique(y)])[y]


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer, load_iris])
@pytest.mark.parametrize("shrinkage", ["none", 0.01, 0.5, 1.0])
def test_equals_scikit_learn(load, shrinkage):
    X, y = load(return_X_y=True)
    head = LinearDiscriminant(shrinkage).fit(X[::2], y[::2])
    peer = LinearDiscriminantAnalysis("lsqr", shrinkage=None if shrinkage == "none" else shrinkage).fit(X[::2], y[::2])
    np.testing.assert_array_equal(head.predict(X[1::2]), peer.predict(X[1::2]))
    np.testing.assert_allclose(head.predict_proba(X[1::2]), peer.predict_proba(X[1::2]), rtol=1e-5, atol=1e-9)


def test_digits_with_features_that_never_vary_equal_scikit_learn():
    X, y = load_digits(return_X_y=True)
    for shrinkage in ("none", 0.1):
        peer = LinearDiscriminantAnalysis("lsqr", shrinkage=None if shrinkage == "none" else shrinkage)
        head = LinearDiscriminant(shrinkage).fit(X[::2], y[::2])
        assert (head.predict(X[1::2]) == peer.fit(X[::2], y[::2]).predict(X[1::2])).mean() > 0.998


@pytest.mark.parametrize("load", [load_digits, load_wine, load_breast_cancer, load_iris])
def test_share_is_that_of_ledoit_and_wolf(load):
    X, y = load(return_X_y=True)
    rows = residuals(X, y)
    rows = rows[:, rows.std(axis=0) > 1e-3 * X.std(axis=0)]
    kept = np.flatnonzero(residuals(X, y).std(axis=0) > 1e-3 * X.std(axis=0))
    head = LinearDiscriminant().fit(X[:, kept], y)
    expected = ledoit_wolf_shrinkage(rows / rows.std(axis=0), assume_centered=True)
    assert head.shrinkage_ == pytest.approx(expected, rel=1e-9)


def test_share_of_float16_rows_is_close_to_that_of_float64():
    X, y = load_digits(return_X_y=True)
    exact, narrow = (LinearDiscriminant().fit(X.astype(t), y).shrinkage_ for t in (np.float64, np.float16))
    assert narrow == pytest.approx(exact, rel=1e-4)


def test_linear_form_is_the_rule():
    X, y = load_wine(return_X_y=True)
    head = LinearDiscriminant(0.1).fit(X, y)
    np.testing.assert_array_equal(head.decision_function(X), X @ head.coef_.T + head.intercept_)
    within = residuals(X, y).T @ residuals(X, y) / len(X)
    S = 0.9 * within + 0.1 * np.eye(13) * np.trace(within) / 13
    means = np.array([X[y == k].mean(axis=0) for k in range(3)])
    W = np.linalg.solve(S, means.T).T
    rule = np.log(np.bincount(y) / len(y)) + X @ W.T - (W * means).sum(axis=1) / 2
    np.testing.assert_allclose(np.diff(head.logits(X)), np.diff(rule), rtol=1e-8, atol=1e-8)


def test_affine_maps_move_no_probability_without_shrinkage():
    X, y = load_wine(return_X_y=True)
    rng = np.random.default_rng(0)
    moved = X @ rng.normal(size=(13, 13)) + 100 * rng.normal(size=13)
    a, b = (LinearDiscriminant("none").fit(Z, y).predict_proba(Z) for Z in (X, moved))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_units_of_features_move_no_probability_under_ledoit_wolf():
    X, y = load_breast_cancer(return_X_y=True)
    moved = X * 10 ** np.random.default_rng(0).uniform(-3, 3, 30) + 5
    a, b = (LinearDiscriminant().fit(Z, y).predict_proba(Z) for Z in (X, moved))
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9)


def test_a_fixed_share_allows_rotations_but_not_units():
    X, y = load_wine(return_X_y=True)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(13, 13)))[0]
    plain, rotated, scaled = (
        LinearDiscriminant(0.5).fit(Z, y).predict_proba(Z) for Z in (X, X @ Q, X * np.arange(1, 14))
    )
    np.testing.assert_allclose(plain, rotated, rtol=1e-6, atol=1e-9)
    assert np.abs(plain - scaled).max() > 0.01


def test_full_share_is_the_nearest_class_mean():
    X, y = load_iris(return_X_y=True)
    head, peer = LinearDiscriminant(1.0).fit(X, y), NearestCentroid().fit(X, y)
    np.testing.assert_array_equal(head.predict(X), peer.predict(X))


def test_shared_covariance_reaches_bayes_and_different_ones_do_not():
    for shrinkage in ("none", "ledoit_wolf"):
        assert abs(excess_in_standard_errors(LinearDiscriminant(shrinkage), correlated())) < 3
        assert abs(excess_in_standard_errors(LinearDiscriminant(shrinkage), diagonal())) < 3
    different = Gaussians(np.full(4, 0.2), (np.eye(4), 6 * np.eye(4)))
    X, y = different.draw(200_000, seed=3)
    likelihoods = [
        multivariate_normal(sign * different.offset, c).logpdf(X)
        for sign, c in zip((-1, 1), different.covariances, strict=True)
    ]
    bayes_error = float(np.mean(np.argmax(likelihoods, axis=0) != y))
    assert excess_in_standard_errors(LinearDiscriminant(), different, bayes_error) > 10


def test_offline_reference_of_the_card():
    """The card's 95.01 +- 0.79 is scikit-learn's share per class; one pooled share gives the same mean."""
    peer = LinearDiscriminantAnalysis("lsqr", shrinkage="auto")
    assert offline_accuracies(peer, load_digits).mean() == pytest.approx(95.01, abs=0.01)
    assert offline_accuracies(LinearDiscriminant(), load_digits).mean() == pytest.approx(95.01, abs=0.2)


def test_validation_rows_are_further_training_rows():
    X, y = load_wine(return_X_y=True)
    split = LinearDiscriminant().fit(X[::2], y[::2], validation=(X[1::2], y[1::2]))
    np.testing.assert_allclose(split.logits(X), LinearDiscriminant().fit(X, y).logits(X), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("shrinkage", ["none", 0.1, "ledoit_wolf"])
def test_constant_and_duplicated_features_give_finite_scores(shrinkage):
    X, y = load_wine(return_X_y=True)
    padded = np.column_stack([X, X[:, 3], np.full(len(X), 1e4), X[:, 0] + X[:, 1]])
    head = LinearDiscriminant(shrinkage).fit(padded, y)
    assert np.isfinite(head.logits(padded)).all()
    if shrinkage == "none":
        expected = LinearDiscriminant("none").fit(X, y).predict_proba(X)
        np.testing.assert_allclose(head.predict_proba(padded), expected, rtol=1e-4, atol=1e-7)


def test_float32_products_do_not_turn_duplicated_features_into_signal(monkeypatch):
    monkeypatch.setattr("probe.moments.FLOAT64_PRODUCTS", 0)
    X, y = load_wine(return_X_y=True)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    padded = np.column_stack([X, X[:, 3], X[:, :2].sum(axis=1)])
    plain, other = (LinearDiscriminant("none").fit(Z, y).predict_proba(Z) for Z in (X, padded))
    np.testing.assert_allclose(plain, other, atol=1e-3)


@pytest.mark.parametrize("n_classes", [2, 1000])
def test_one_row_per_class_is_finite_and_finds_its_own_rows(n_classes):
    X = np.random.default_rng(0).normal(size=(n_classes, 32))
    for shrinkage in (0.1, "ledoit_wolf"):
        head = LinearDiscriminant(shrinkage).fit(X, np.arange(n_classes))
        assert np.isfinite(head.logits(X)).all()
        assert head.score(X, np.arange(n_classes)) == 1


def test_bad_input_is_refused_with_a_sentence():
    X, y = load_iris(return_X_y=True)
    for shrinkage in (-0.1, 1.5, "auto", True):
        with pytest.raises(InputError, match=f"shrinkage={shrinkage!r} is unknown: set shrinkage to none, ledoit_wolf"):
            LinearDiscriminant(shrinkage).fit(X, y)
    few = np.arange(0, 150, 25)
    with pytest.raises(InputError, match="6 rows of 3 classes give no covariance of 4 features: with shrinkage=none"):
        LinearDiscriminant("none").fit(X[few], y[few])
    assert np.isfinite(LinearDiscriminant().fit(X[few], y[few]).logits(X)).all()
