import numpy as np
import pytest
from known_bayes import correlated, curved, diagonal, excess_in_standard_errors, offline_accuracies
from sklearn.covariance import ledoit_wolf_shrinkage, oas
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from probe.core.errors import InputError
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
    head = LinearDiscriminant("ledoit_wolf").fit(X[:, kept], y)
    expected = ledoit_wolf_shrinkage(rows / rows.std(axis=0), assume_centered=True)
    assert head.shrinkage_ == pytest.approx(expected, rel=1e-9)


def test_oracle_approximating_share_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    for n_rows in (20, 100, 1000):
        X, y = rng.normal(size=(n_rows, 400)) @ rng.normal(size=(400, 400)), np.arange(n_rows) % 2
        rows = residuals(X, y)
        # As many rows of the same covariance as two means leave free; scikit-learn drops two terms of size 2 / width.
        free = np.linalg.qr(np.column_stack([y, 1 - y, np.eye(n_rows)]))[0][:, 2:n_rows].T @ (rows / rows.std(axis=0))
        expected = oas(free, assume_centered=True)[1]
        assert LinearDiscriminant("oas").fit(X, y).shrinkage_ == pytest.approx(expected, rel=0.01)


def test_oracle_approximating_share_is_near_the_best_for_gaussian_classes():
    rng = np.random.default_rng(0)
    truth = 0.7 ** np.abs(np.subtract.outer(np.arange(30), np.arange(30)))
    lost = {"oas": 0.0, "best": 0.0, "none": 0.0}
    for _ in range(40):
        X, y = rng.multivariate_normal(np.zeros(30), truth, size=40), np.arange(40) % 2
        rows = residuals(X, y)
        S = np.corrcoef(rows.T)
        shares = {"oas": [LinearDiscriminant("oas").fit(X, y).shrinkage_], "none": [0.0], "best": np.linspace(0, 1, 41)}
        for name, tried in shares.items():
            lost[name] += min((((1 - share) * S + share * np.eye(30) - truth) ** 2).sum() for share in tried)
    assert lost["oas"] < 1.1 * lost["best"] < 0.9 * lost["none"]


def in_pieces(head, X, y, pieces):
    for rows in pieces:
        head.partial_fit(X[rows], y[rows], classes=np.unique(y))
    return head


@pytest.mark.parametrize("shrinkage", ["none", 0.1, 1.0, "oas"])
def test_streaming_equals_fitting_at_once_in_any_order_and_split(shrinkage):
    X, y = load_wine(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    expected = LinearDiscriminant(shrinkage).fit(X, y).logits(X)
    by_class = [np.flatnonzero(y == k) for k in (2, 0, 1)]
    for parts in (by_class, np.split(order, [40, 47, 120])):
        found = in_pieces(LinearDiscriminant(shrinkage), X, y, parts).logits(X)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_share_that_reads_rows_twice_does_not_stream():
    assert not hasattr(LinearDiscriminant("ledoit_wolf"), "partial_fit")
    assert hasattr(LinearDiscriminant(0.1), "partial_fit")


def test_classes_to_come_are_never_predicted():
    X, y = load_wine(return_X_y=True)
    head = LinearDiscriminant().partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    assert np.isneginf(head.logits(X)[:, 2]).all()
    assert np.isfinite(head.logits(X)[:, :2]).all()
    assert set(head.partial_fit(X[y == 2], y[y == 2]).predict(X)) == {0, 1, 2}


def test_share_of_float16_rows_is_close_to_that_of_float64():
    X, y = load_digits(return_X_y=True)
    exact, narrow = (LinearDiscriminant("ledoit_wolf").fit(X.astype(t), y).shrinkage_ for t in (np.float64, np.float16))
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


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit_wolf"])
def test_units_of_features_move_no_probability_under_a_share_of_the_diagonal(shrinkage):
    X, y = load_breast_cancer(return_X_y=True)
    moved = X * 10 ** np.random.default_rng(0).uniform(-3, 3, 30) + 5
    a, b = (LinearDiscriminant(shrinkage).fit(Z, y).predict_proba(Z) for Z in (X, moved))
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
    for shrinkage in ("none", "oas", "ledoit_wolf"):
        assert abs(excess_in_standard_errors(LinearDiscriminant(shrinkage), correlated())) < 3
        assert abs(excess_in_standard_errors(LinearDiscriminant(shrinkage), diagonal())) < 3
    assert excess_in_standard_errors(LinearDiscriminant(), *curved()) > 10


def test_offline_reference_of_the_card():
    """The card's 95.01 +- 0.79 is scikit-learn's share per class; one pooled share gives the same mean."""
    peer = LinearDiscriminantAnalysis("lsqr", shrinkage="auto")
    assert offline_accuracies(peer, load_digits).mean() == pytest.approx(95.01, abs=0.01)
    for shrinkage in ("oas", "ledoit_wolf"):
        found = offline_accuracies(LinearDiscriminant(shrinkage), load_digits).mean()
        assert found == pytest.approx(95.01, abs=0.2)


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit_wolf"])
def test_validation_rows_are_further_training_rows(shrinkage):
    X, y = load_wine(return_X_y=True)
    split = LinearDiscriminant(shrinkage).fit(X[::2], y[::2], validation=(X[1::2], y[1::2]))
    np.testing.assert_allclose(split.logits(X), LinearDiscriminant(shrinkage).fit(X, y).logits(X), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("shrinkage", ["none", 0.1, "oas", "ledoit_wolf"])
def test_constant_and_duplicated_features_give_finite_scores(shrinkage):
    X, y = load_wine(return_X_y=True)
    padded = np.column_stack([X, X[:, 3], np.full(len(X), 1e4), X[:, 0] + X[:, 1]])
    head = LinearDiscriminant(shrinkage).fit(padded, y)
    assert np.isfinite(head.logits(padded)).all()
    if shrinkage == "none":
        expected = LinearDiscriminant("none").fit(X, y).predict_proba(X)
        np.testing.assert_allclose(head.predict_proba(padded), expected, rtol=1e-4, atol=1e-7)


def test_float32_products_do_not_turn_duplicated_features_into_signal(monkeypatch):
    monkeypatch.setattr("probe.heads.shared.moments.FLOAT64_PRODUCTS", 0)
    X, y = load_wine(return_X_y=True)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    padded = np.column_stack([X, X[:, 3], X[:, :2].sum(axis=1)])
    plain, other = (LinearDiscriminant("none").fit(Z, y).predict_proba(Z) for Z in (X, padded))
    np.testing.assert_allclose(plain, other, atol=1e-3)


@pytest.mark.parametrize("n_classes", [2, 1000])
def test_one_row_per_class_is_finite_and_finds_its_own_rows(n_classes):
    X = np.random.default_rng(0).normal(size=(n_classes, 32))
    for shrinkage in (0.1, "oas", "ledoit_wolf"):
        head = LinearDiscriminant(shrinkage).fit(X, np.arange(n_classes))
        assert np.isfinite(head.logits(X)).all()
        assert head.score(X, np.arange(n_classes)) == 1


def test_bad_input_is_refused_with_a_sentence():
    X, y = load_iris(return_X_y=True)
    for shrinkage in (-0.1, 1.5, "auto", True):
        with pytest.raises(InputError, match=f"shrinkage={shrinkage!r} is unknown: set shrinkage to none, oas,"):
            LinearDiscriminant(shrinkage).fit(X, y)
    few = np.arange(0, 150, 25)
    with pytest.raises(
        InputError, match=r"6 rows of 3 classes give no covariance of 4 features: with head.shrinkage=none"
    ):
        LinearDiscriminant("none").fit(X[few], y[few])
    assert np.isfinite(LinearDiscriminant().fit(X[few], y[few]).logits(X)).all()
