import numpy as np
import pytest
from known_bayes import curved, excess_in_standard_errors, isotropic
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge, RidgeClassifier, RidgeClassifierCV
from sklearn.preprocessing import minmax_scale

from probe.core.errors import InputError
from probe.heads.ridge import RidgeProbe

DATASETS = [load_digits, load_wine, load_breast_cancer, load_iris]
ALPHAS = [1e-3, 0.1, 1.0, 30.0, 1e3]


def scaled(load):
    X, y = load(return_X_y=True)
    return minmax_scale(X), y


@pytest.mark.parametrize("load", DATASETS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_every_penalty_equals_ridge_classifier(load, alpha):
    X, y = scaled(load)
    head, peer = RidgeProbe([alpha]).fit(X[::2], y[::2]), RidgeClassifier(alpha=alpha).fit(X[::2], y[::2])
    coef, intercept = (head.coef_, head.intercept_) if len(head.classes_) > 2 else (head.coef_[1:], head.intercept_[1:])
    np.testing.assert_allclose(coef, np.reshape(peer.coef_, coef.shape), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(intercept, np.ravel(peer.intercept_), rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(head.predict(X[1::2]), peer.predict(X[1::2]))


@pytest.mark.parametrize("load", DATASETS)
def test_leave_one_out_errors_equal_those_of_ridge_classifier_cv(load):
    X, y = scaled(load)
    head = RidgeProbe(ALPHAS).fit(X, y)
    by_error = RidgeClassifierCV(ALPHAS, store_cv_results=True).fit(X, y)
    np.testing.assert_allclose(head.squared_errors_, by_error.cv_results_.mean(axis=(0, 1)), rtol=1e-7)
    assert head.selection_["on"] == "leave-one-out"
    assert head.selection_["chosen"] == {"alpha": head.alpha_}
    assert [entry["alpha"] for entry in head.selection_["searched"]] == ALPHAS


@pytest.mark.parametrize(("n_rows", "width"), [(40, 6), (30, 60)])
def test_leave_one_out_equals_fitting_without_each_row(n_rows, width):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n_rows)
    X = rng.normal(size=(n_rows, width)) + rng.normal(size=(3, width))[y]
    head = RidgeProbe(ALPHAS).fit(X, y)
    targets = 2.0 * np.eye(3)[y] - 1
    for alpha, score, squared_error in zip(ALPHAS, head.scores_, head.squared_errors_, strict=True):
        others = [np.arange(n_rows) != i for i in range(n_rows)]
        left_out = np.array([Ridge(alpha).fit(X[o], targets[o]).predict(X[~o])[0] for o in others])
        assert squared_error == pytest.approx(np.mean((targets - left_out) ** 2), rel=1e-7)
        assert score == pytest.approx(np.mean(left_out.argmax(axis=1) == y))


def test_all_penalties_come_from_one_eigendecomposition(monkeypatch):
    calls = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: calls.append(1) or eigh(matrix))
    X, y = scaled(load_digits)
    RidgeProbe(40).fit(X, y)
    assert len(calls) == 1


def test_an_interpolating_fit_is_not_taken_for_a_good_one():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 200)), np.arange(30) % 2  # labels of noise
    head = RidgeProbe([1e-14, 10.0]).fit(X, y)
    assert head.scores_[0] < 0.8
    assert head.squared_errors_[0] > 0.5


def test_selection_uses_validation_rows_and_refits_on_both():
    X, y = scaled(load_digits)
    head = RidgeProbe(ALPHAS).fit(X[:600], y[:600], validation=(X[600:1200], y[600:1200]))
    scores = [RidgeClassifier(alpha=a).fit(X[:600], y[:600]).score(X[600:1200], y[600:1200]) for a in ALPHAS]
    np.testing.assert_allclose(head.scores_, scores)
    assert head.scores_[ALPHAS.index(head.alpha_)] == max(scores)
    both = RidgeClassifier(alpha=head.alpha_).fit(X[:1200], y[:1200])
    np.testing.assert_allclose(head.coef_, both.coef_, rtol=1e-6, atol=1e-9)
    assert head.selection_["on"] == "validation"
    assert head.selection_["searched"][2]["score"] == pytest.approx(scores[2])


def test_judging_some_rows_scores_alike_and_fits_on_all(monkeypatch):
    X, y = scaled(load_digits)
    every, fixed = RidgeProbe(ALPHAS).fit(X, y), RidgeProbe([1.0]).fit(X, y)
    monkeypatch.setattr("probe.heads.ridge.LEAVE_ONE_OUT_ROWS", 900)
    some = RidgeProbe(ALPHAS).fit(X, y)
    np.testing.assert_allclose(some.squared_errors_, every.squared_errors_, rtol=0.1)
    np.testing.assert_allclose(some.scores_, every.scores_, atol=0.02)
    np.testing.assert_array_equal(RidgeProbe([1.0]).fit(X, y).coef_, fixed.coef_)


def test_no_penalty_on_balanced_classes_is_fishers_direction():
    X, y = load_breast_cancer(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y == k)[:200] for k in (0, 1)])
    w = RidgeProbe([0.0]).fit(X[rows], y[rows]).coef_[1]
    fisher = LinearDiscriminantAnalysis("lsqr").fit(X[rows], y[rows]).coef_[0]
    assert w @ fisher / np.linalg.norm(w) / np.linalg.norm(fisher) == pytest.approx(1, abs=1e-9)


def test_a_huge_penalty_points_to_the_class_means():
    X, y = scaled(load_wine)
    head = RidgeProbe([1e12]).fit(X, y)
    sums = np.array([(X[y == k] - X.mean(axis=0)).sum(axis=0) for k in range(3)])
    np.testing.assert_allclose(head.coef_ * 1e12, 2 * sums, rtol=1e-6)


def test_rotations_and_shifts_move_no_score():
    X, y = scaled(load_digits)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0]
    plain, moved = (RidgeProbe([1.0]).fit(Z, y).logits(Z) for Z in (X, X @ Q + 10))
    np.testing.assert_allclose(plain, moved, atol=1e-8)


def test_duplicated_features_share_the_weight():
    X, y = scaled(load_wine)
    head = RidgeProbe([1e-9]).fit(np.column_stack([X, X[:, 4], np.full(len(X), 3.0)]), y)
    np.testing.assert_allclose(head.coef_[:, 4], head.coef_[:, 13], rtol=1e-5)
    np.testing.assert_allclose(head.coef_[:, 14], 0, atol=1e-6)


def test_isotropic_gaussians_reach_bayes_and_curved_ones_do_not():
    assert abs(excess_in_standard_errors(RidgeProbe(), isotropic())) < 3
    assert excess_in_standard_errors(RidgeProbe(), *curved()) > 10


@pytest.mark.parametrize("n_classes", [2, 1000])
def test_one_row_per_class_is_finite(n_classes):
    X = np.random.default_rng(0).normal(size=(n_classes, 16))
    head = RidgeProbe().fit(X, np.arange(n_classes))
    assert np.isfinite(head.logits(X)).all()
    assert np.isfinite(head.squared_errors_).all()


def test_a_number_of_penalties_is_spread_over_sixteen_decades():
    X, y = scaled(load_iris)
    np.testing.assert_allclose(RidgeProbe().fit(X, y).alphas_, 10.0 ** np.arange(-8, 9))
    assert len(RidgeProbe(5).fit(X, y).alphas_) == 5


@pytest.mark.parametrize("alphas", [[], [-1.0], [np.nan], 0, [[1.0]]])
def test_bad_penalties_are_refused_with_a_sentence(alphas):
    with pytest.raises(InputError, match="are no penalties: give a number of them, or a list of values >= 0"):
        RidgeProbe(alphas).fit(*scaled(load_iris))


def in_pieces(head, X, y, pieces):
    for rows in pieces:
        head.partial_fit(X[rows], y[rows], classes=np.unique(y))
    return head


def pieces(y, seed):
    """Rows class after class and at random, in unequal parts."""
    order = np.random.default_rng(seed).permutation(len(y))
    return [np.flatnonzero(y == k) for k in np.unique(y)[::-1]], np.split(order, [1, 7, len(y) // 2])


@pytest.mark.parametrize("load", [load_wine, load_digits])
def test_streaming_equals_fitting_at_once_in_any_order_and_split(load):
    X, y = load(return_X_y=True)
    X = (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-3)
    for alpha in (1e-2, 10.0):
        expected = RidgeProbe([alpha]).fit(X, y).logits(X)
        for parts in pieces(y, 0):
            found = in_pieces(RidgeProbe([alpha]), X, y, parts).logits(X)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    at_once = RidgeProbe().partial_fit(X, y, classes=np.unique(y))
    for parts in pieces(y, 1):
        streamed = in_pieces(RidgeProbe(), X, y, parts)
        assert streamed.alpha_ == at_once.alpha_
        np.testing.assert_allclose(streamed.squared_errors_, at_once.squared_errors_, rtol=1e-9)
        np.testing.assert_allclose(streamed.logits(X), at_once.logits(X), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("n_rows", "width"), [(60, 5), (30, 29), (20, 50)])
def test_streamed_penalty_minimises_the_generalised_cross_validation_error(n_rows, width):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n_rows, width)), np.arange(n_rows) % 3
    X[np.arange(n_rows), y] += 1.5
    alphas = np.logspace(-3, 3, 7)
    head = RidgeProbe(alphas).partial_fit(X, y, classes=[0, 1, 2])
    centred, targets = X - X.mean(axis=0), 2.0 * np.eye(3)[y] - 1
    expected = []
    for alpha in alphas:
        hat = centred @ np.linalg.solve(centred.T @ centred + alpha * np.eye(width), centred.T) + 1 / n_rows
        errors = ((targets - hat @ targets) ** 2).mean()
        expected.append(errors / (1 - np.trace(hat) / n_rows) ** 2)
    np.testing.assert_allclose(head.squared_errors_, expected, rtol=1e-8)
    assert head.alpha_ == alphas[np.argmin(expected)]
    assert head.selection_["on"] == "generalised cross-validation"


def test_streamed_penalty_is_about_as_good_as_that_of_leaving_one_out():
    X, y = load_digits(return_X_y=True)
    for rows in (slice(0, 100), slice(0, 900)):
        streamed = RidgeProbe().partial_fit(X[rows], y[rows], classes=np.arange(10))
        assert streamed.score(X[900:], y[900:]) > RidgeProbe().fit(X[rows], y[rows]).score(X[900:], y[900:]) - 0.01


def test_classes_to_come_are_never_predicted():
    X, y = load_wine(return_X_y=True)
    head = RidgeProbe().partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    assert np.isneginf(head.logits(X)[:, 2]).all()
    assert np.isfinite(head.logits(X)[:, :2]).all()
    assert np.isfinite(RidgeProbe().partial_fit(X[:1], y[:1], classes=[0, 1, 2]).logits(X)[:, 0]).all()
    assert set(head.partial_fit(X[y == 2], y[y == 2]).predict(X)) == {0, 1, 2}


def test_fit_and_partial_fit_go_together():
    X, y = load_wine(return_X_y=True)
    head = RidgeProbe([1.0]).fit(X[::2], y[::2]).partial_fit(X[1::2], y[1::2])
    np.testing.assert_allclose(head.logits(X), RidgeProbe([1.0]).fit(X, y).logits(X), rtol=1e-8, atol=1e-10)
