import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import norm
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge

from probe.core.errors import InputError
from probe.heads.gaussian_head import GaussianHead, LeastSquares, scale_loss
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


def test_the_gradient_is_that_of_the_loss_which_is_the_likelihood_s():
    X, y, _ = world(20)
    theta, errors = np.random.default_rng(1).normal(size=4) * 0.3, y - X[:, 0]
    value, gradient = scale_loss(theta, X, errors**2, 0.3)
    numeric = approx_fprime(theta, lambda t: scale_loss(t, X, errors**2, 0.3)[0], 1e-7)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-5)
    likelihood = norm.logpdf(errors, 0, np.exp(X @ theta[1:] + theta[0])).mean()
    assert value == pytest.approx(-likelihood - np.log(2 * np.pi) / 2 + 0.15 * theta[1:] @ theta[1:])


@pytest.mark.parametrize("n", [5, 6, 8, 9, 30])
@pytest.mark.parametrize("alpha", [0.0, 1e-8, 1e-3, 1.0])
@pytest.mark.parametrize("spread", [1, 5])
def test_means_are_weighted_ridge_and_errors_those_of_fits_without_each_row(n, alpha, spread):
    X, y, scale = world(n, 3)
    X = np.hstack([X, X[:, :1] * X[:, 1:2], np.cos(X)])  # 7 features, of more and of fewer rows
    weights = scale ** (-2 * spread) / 20
    solver = LeastSquares(X, y, weights)
    fitted, missed = solver.fit(alpha)
    penalty = max(n * alpha, solver.least)
    peer = Ridge(penalty, solver="svd").fit(X, y, weights)
    np.testing.assert_allclose(fitted, [peer.intercept_, *peer.coef_], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(missed, without_each(X, y, weights, penalty), rtol=1e-4, atol=1e-5)


def without_each(X, y, weights, penalty):
    """Errors by scikit-learn; the others' centre is that of all rows, the intercept has a weight of its own."""
    X, found = X - weights @ X / weights.sum(), []
    for i in range(len(X)):
        kept = np.arange(len(X)) != i
        peer = Ridge(penalty, solver="svd").fit(X[kept], y[kept], weights[kept])
        found.append(y[i] - peer.predict(X[i : i + 1])[0])
    return found


@pytest.mark.parametrize(("n", "width"), [(2, 400), (20, 400), (20, 60), (20, 19), (20, 18)])
@pytest.mark.parametrize("weight", [1e2, 1e6])
@pytest.mark.parametrize("alpha", [0.0, 1e-3])
def test_errors_of_interpolated_rows_are_no_rounding(n, width, weight, alpha):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, width)), rng.normal(size=n)
    solver = LeastSquares(X, y, np.full(n, weight))
    np.testing.assert_allclose(
        solver.fit(alpha)[1], without_each(X, y, np.full(n, weight), max(n * alpha, solver.least)), rtol=1e-8
    )


@pytest.mark.parametrize(("n", "width"), [(8, 60), (20, 60), (50, 60), (100, 60), (8, 3)])
def test_rounding_of_features_moves_no_prediction(n, width):
    rng = np.random.default_rng(0)
    X, T = rng.normal(size=(n, width)), rng.normal(size=(50, width))
    y = 2 * X[:, 0] + np.exp(0.5 * X[:, 1] - 1) * rng.normal(size=n)
    one, other = (GaussianHead([0.001]).fit(rows, y) for rows in (X, X * (1 + 1e-15 * rng.integers(-1, 2, X.shape))))
    assert np.abs(one.predict(T) - other.predict(T)).max() < 1e-6 * np.std(y)
    np.testing.assert_allclose(one.scales(T), other.scales(T), rtol=1e-5)


@pytest.mark.parametrize(
    ("n", "width", "alphas"), [(20, 60, [0.001]), (20, 60, [0.0]), (20, 2048, [0.001]), (2, 2048, [0.001, 0.01])]
)
def test_few_rows_in_many_dimensions_leave_scales_of_the_size_of_errors(n, width, alphas):
    """Where the means hit all rows, half of others or nearly so lie within two scales: some, if not a normal's 95 %."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n + 1000, width))
    y = X[:, 0] + 0.5 * rng.normal(size=len(X))
    head = GaussianHead(alphas).fit(X[:n], y[:n])
    assert np.abs(head.predict(X[:n]) - y[:n]).max() < 0.05
    within = np.abs(head.predict(X[n:]) - y[n:]) < 2 * head.scales(X[n:])[:, 0]
    assert within.mean() > 0.45


def test_one_decomposition_serves_all_variances():
    """Equal weights are a penalty of their inverse more: what the rounds of the start rest on."""
    X, y, _ = world(30)
    alike = LeastSquares(X, y, np.ones(30))
    for variance in (1e-4, 0.3, 20.0):
        weighed = LeastSquares(X, y, np.full(30, 1 / variance)).fit(0.01)
        for one, other in zip(alike.fit(0.01 * variance), weighed, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9)


def test_features_and_numbers_that_do_not_vary_say_nothing():
    """The mean of equal numbers differs from them by rounding, which is no deviation."""
    X, y, _ = world(7)
    X[:, 2], other = 0.1, X + np.array([0, 0, 1e-3])
    head = GaussianHead([0.01]).fit(X, y)
    np.testing.assert_allclose(head.predict(other), head.predict(X))
    np.testing.assert_allclose(GaussianHead([0.01]).fit(X, np.full(7, 0.1)).predict(X), 0.1)


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
