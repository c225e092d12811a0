import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from probe.core.errors import InputError
from probe.heads.lda import LinearDiscriminant
from probe.heads.qda import QuadraticDiscriminant


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_equals_densities_of_scipy(load):
    X, y = load(return_X_y=True)
    found = QuadraticDiscriminant(0.0, 0.0).fit(X[::2], y[::2]).predict_proba(X[1::2])
    logits = []
    for k in range(3):
        own = X[::2][y[::2] == k]
        density = multivariate_normal(own.mean(axis=0), np.cov(own.T, bias=True))
        logits.append(np.log(len(own)) + density.logpdf(X[1::2]))
    expected = np.exp(logits - np.max(logits, axis=0)).T
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-9)


def test_pooled_covariances_are_those_of_linear_discriminant_analysis():
    X, y = load_wine(return_X_y=True)
    for shrinkage in (0.0, 0.3):
        peer = LinearDiscriminantAnalysis("lsqr", shrinkage=shrinkage or None).fit(X[::2], y[::2])
        found = QuadraticDiscriminant(shrinkage, 1.0).fit(X[::2], y[::2])
        np.testing.assert_allclose(found.predict_proba(X[1::2]), peer.predict_proba(X[1::2]), rtol=1e-4, atol=1e-8)


def test_beats_a_linear_rule_where_covariances_differ():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4000, 5)), np.arange(4000) % 2
    X[y == 1] *= 3
    scores = [head.fit(X[:2000], y[:2000]).score(X[2000:], y[2000:]) for head in (
        QuadraticDiscriminant(), LinearDiscriminant())]  # fmt: skip
    assert scores[0] > 0.85
    assert scores[1] < 0.6


def test_streaming_equals_fitting_at_once_in_any_order_of_classes():
    X, y = load_wine(return_X_y=True)
    joint = QuadraticDiscriminant().fit(X, y).logits(X)
    for order in ([0, 1, 2], [2, 0, 1]):
        head = QuadraticDiscriminant()
        for k in order:
            head.partial_fit(X[y == k], y[y == k], classes=[0, 1, 2])
        np.testing.assert_allclose(head.logits(X), joint, rtol=1e-8, atol=1e-8)


def test_fewer_rows_than_features_and_a_class_of_one_row_give_finite_logits():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 30)), np.array([0] * 6 + [1] * 5 + [2])
    assert np.isfinite(QuadraticDiscriminant().fit(X, y).logits(X)).all()
    assert np.isfinite(QuadraticDiscriminant(0.0, 0.0).fit(X, y).logits(X)).all()


def test_a_class_to_come_is_never_predicted():
    X, y = load_wine(return_X_y=True)
    head = QuadraticDiscriminant().partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    assert np.isneginf(head.logits(X)[:, 2]).all()


def test_parameters_outside_their_range_are_refused():
    with pytest.raises(InputError, match=r"pooling is 1.5, expected a number from 0 to 1"):
        QuadraticDiscriminant(pooling=1.5).fit([[0.0], [1.0]], [0, 1])
