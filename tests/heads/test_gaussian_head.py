import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import norm
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from probe.core.errors import InputError
from probe.heads.gaussian_head import GaussianHead, loss
from probe.metrics.normal import NormalScores, crps
from probe.metrics.prediction_intervals import margins


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`."""
    return {"alphas": [0.1]}


def world(n, seed=0):
    """y = 2 x_0 + exp(0.5 x_1) noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    scale = np.exp(0.5 * X[:, 1] - 1)
    return X, 2 * X[:, 0] + scale * rng.normal(size=n), scale


def test_the_gradient_is_that_of_the_loss():
    X, y, _ = world(20)
    theta = np.random.default_rng(1).normal(size=8) * 0.3
    value, gradient = loss(theta, X, y, 0.3)
    numeric = approx_fprime(theta, lambda t: loss(t, X, y, 0.3)[0], 1e-7)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-5)
    of_mean, of_scale = theta.reshape(2, -1)
    likelihood = norm.logpdf(y, X @ of_mean[1:] + of_mean[0], np.exp(X @ of_scale[1:] + of_scale[0])).mean()
    penalty = 0.15 * (of_mean[1:] @ of_mean[1:] + of_scale[1:] @ of_scale[1:])
    assert value == pytest.approx(-likelihood - np.log(2 * np.pi) / 2 + penalty)


def test_finds_the_mean_and_the_scale_of_a_linear_world_and_its_score():
    X, y, _ = world(4000)
    head = GaussianHead([1e-4]).fit(X, y)
    np.testing.assert_allclose(head.coef_[0], [2, 0, 0], atol=0.03)
    np.testing.assert_allclose(head.scale_coef_[0], [0, 0.5, 0], atol=0.05)
    X, y, scale = world(4000, 1)
    truth = crps(NormalScores(2 * X[:, :1], scale[:, None], y[:, None])).mean()
    found = crps(NormalScores(head.predict(X)[:, None], head.scales(X), y[:, None])).mean()
    assert found == pytest.approx(truth, rel=0.01)


def test_with_one_scale_for_all_rows_it_is_least_squares():
    X, y = load_diabetes(return_X_y=True)
    rng = np.random.default_rng(0)
    y = LinearRegression().fit(X, y).predict(X) + 50 * rng.normal(size=len(y))
    head, peer = GaussianHead([1e-6]).fit(X, y), LinearRegression().fit(X, y)
    assert np.abs(head.predict(X) - peer.predict(X)).mean() < 0.1 * np.abs(y - peer.predict(X)).mean()
    assert head.scales(X).mean() == pytest.approx((y - peer.predict(X)).std(), rel=0.05)


def test_quantiles_and_intervals_are_those_of_the_normal_distribution():
    X, y, _ = world(200)
    head = GaussianHead([0.01], levels=[0.95, 0.5]).fit(X, y)
    mean, scale = head.predict(X), head.scales(X)[:, 0]
    np.testing.assert_allclose(head.quantiles(X)[:, 0, 1], norm.ppf(0.95, mean, scale))
    np.testing.assert_allclose(head.quantiles(X)[:, 0, 0], mean)
    np.testing.assert_allclose(head.interval(X, 0.8)[0][:, 0], norm.ppf(0.1, mean, scale))


def test_validation_rows_choose_the_penalty_whatever_the_unit():
    X, y, _ = world(300)
    fits = [GaussianHead([1e-4, 10.0]).fit(X[:200], u * y[:200], validation=(X[200:], u * y[200:])) for u in (1, 1e9)]
    assert [head.alpha_ for head in fits] == [1e-4, 1e-4]
    scores = [[c["score"] for c in head.selection_["searched"]] for head in fits]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)
    alone = GaussianHead([1e-4]).fit(X[:200], y[:200])
    np.testing.assert_allclose(fits[0].before_refit().predict(X), alone.predict(X))


def test_parameters_that_are_none_are_refused():
    with pytest.raises(InputError, match="expected a list of numbers between 0 and 1"):
        GaussianHead(levels=[1.0]).check_parameters()
    with pytest.raises(InputError, match="are no penalties"):
        GaussianHead(alphas=[]).check_parameters()


def test_calibrated_intervals_are_as_wide_as_the_scales():
    X, y = load_diabetes(return_X_y=True)
    head = GaussianHead([0.01]).fit(X[:300], y[:300])
    margin = margins(*head.ends(X[300:], 0.9), y[300:, None], 0.9)
    head.keep_margin(margin, 0.9)
    low, high = head.predict_interval(X)
    np.testing.assert_allclose((high - low) / head.scales(X), 2 * margin[0])
    np.testing.assert_allclose((high + low) / 2, head.predict(X)[:, None])
