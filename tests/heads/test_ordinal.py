import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression

from probe.core.errors import InputError
from probe.heads.ordinal import OrdinalRegression, loss


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`."""
    return {"alphas": [0.01], "max_iter": 100}


def world(n=2000, seed=0):
    """Features, and grades 0 to 4 drawn from the model: w = (1.5, -1, 0), thresholds -2, -.5, .5, 3."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    latent = X @ [1.5, -1.0, 0.0] + rng.logistic(size=n)
    return X, (latent[:, None] > [-2.0, -0.5, 0.5, 3.0]).sum(axis=1).astype(float)


@pytest.mark.parametrize("alpha", [1e-3, 0.1])
def test_two_grades_are_logistic_regression(alpha):
    X, y = world(400)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    head = OrdinalRegression([alpha]).fit(X, (y > 2) * 7.0)
    peer = LogisticRegression(C=1 / (alpha * len(X)), tol=1e-10, max_iter=10_000).fit(X, y > 2)
    np.testing.assert_allclose(head.coef_, peer.coef_, rtol=1e-4)
    np.testing.assert_allclose(head.thresholds_[0], -peer.intercept_, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(head.predict(X), 7 * peer.predict_proba(X)[:, 1], atol=1e-4)


def test_the_gradient_is_that_of_the_loss():
    X, y = world(50)
    codes = np.unique(y, return_inverse=True)[1]
    theta = np.random.default_rng(1).normal(size=3 + codes.max())
    numeric = approx_fprime(theta, lambda t: loss(t, X, codes, 0.3)[0], 1e-7)
    np.testing.assert_allclose(loss(theta, X, codes, 0.3)[1], numeric, atol=1e-5)


def test_the_world_that_drew_the_grades_is_found():
    X, y = world(20_000)
    head = OrdinalRegression([1e-6]).fit(X, y)
    np.testing.assert_allclose(head.coef_[0], [1.5, -1, 0], atol=0.08)
    np.testing.assert_allclose(head.thresholds_[0], [-2, -0.5, 0.5, 3], atol=0.1)
    np.testing.assert_allclose(
        head.probabilities(X)[:, 0].mean(axis=0), np.bincount(y.astype(int)) / len(y), atol=0.005
    )


def test_thresholds_ascend_probabilities_sum_to_one_and_quantiles_are_grades():
    X, y = world(300)
    Y = np.stack([y, y % 2], axis=1)
    head = OrdinalRegression([0.01]).fit(X, Y)
    assert (np.diff(head.thresholds_[0]) > 0).all()
    found = head.probabilities(X)
    np.testing.assert_allclose(found.sum(axis=2), 1)
    assert found[:, 1, 2:].max() == 0
    assert set(np.unique(head.quantiles(X)[:, 0])) <= set(range(5))
    assert (np.diff(head.quantiles(X), axis=2) >= 0).all()
    low, high = head.interval(X, 0.9)
    assert (low <= high).all()


def test_distances_between_grades_move_what_is_predicted_and_nothing_else():
    X, y = world(300)
    head, other = OrdinalRegression([0.01]).fit(X, y), OrdinalRegression([0.01]).fit(X, 10**y)
    np.testing.assert_array_equal(head.coef_, other.coef_)
    np.testing.assert_array_equal(head.thresholds_, other.thresholds_)
    np.testing.assert_allclose(other.predict(X), head.probabilities(X)[:, 0] @ 10.0 ** np.arange(5))


def test_validation_rows_choose_the_penalty_and_numbers_between_the_grades_count_as_the_nearest():
    X, y = world(600)
    head = OrdinalRegression([1e-3, 100.0]).fit(X[:300], y[:300], validation=(X[300:], y[300:] + 0.3))
    assert head.alpha_ == 1e-3
    assert [one["alpha"] for one in head.selection_["searched"]] == [1e-3, 100.0]


def test_numbers_that_all_differ_are_grades_too():
    X, y = load_diabetes(return_X_y=True)
    head = OrdinalRegression([0.001]).fit(X[::2], y[::2])
    errors = y[1::2] - head.predict(X[1::2])
    assert 1 - (errors**2).mean() / y[1::2].var() > 0.4


def test_levels_that_are_none_are_refused():
    with pytest.raises(InputError, match="expected a list of numbers between 0 and 1"):
        OrdinalRegression(levels=[1.5]).check_parameters()
