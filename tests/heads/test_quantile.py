import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.linear_model import QuantileRegressor
from sklearn.metrics import mean_pinball_loss
from sklearn.preprocessing import StandardScaler

from probe.core.errors import InputError
from probe.heads.gaussian_head import GaussianHead
from probe.heads.quantile import QuantileRegression
from probe.heads.shared.ridge_numbers import RidgeNumbers
from probe.metrics.prediction_intervals import margins


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`."""
    return {"levels": [0.25, 0.5, 0.75], "alphas": [0.01]}


def test_each_level_has_the_loss_of_scikit_learns_regression():
    X, y = load_diabetes(return_X_y=True)
    scaled, unit = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    head = QuantileRegression([0.1, 0.5, 0.9], [0.01]).fit(X, y)
    for place, level in enumerate([0.1, 0.5, 0.9]):
        peer = QuantileRegressor(quantile=level, alpha=0.01).fit(scaled, unit)
        expected = peer.predict(scaled) * y.std() + y.mean()
        found = X @ head.coef_[0, place] + head.intercept_[0, place]
        losses = [mean_pinball_loss(y, values, alpha=level) for values in (found, expected)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    unsorted = X @ head.coef_[0].T + head.intercept_[0]
    of_levels = [sum(mean_pinball_loss(y, values[:, k], alpha=a) for k, a in enumerate([0.1, 0.5, 0.9]))
                 for values in (head.quantiles(X)[:, 0], unsorted)]  # fmt: skip
    assert of_levels[0] <= of_levels[1]


def test_the_median_has_the_smallest_absolute_error_and_is_what_is_predicted():
    X, y = load_diabetes(return_X_y=True)
    head = QuantileRegression([0.5], [0.0]).fit(X, y)
    np.testing.assert_array_equal(head.predict(X), head.quantiles(X)[:, 0, 0])
    error = np.abs(y - head.predict(X)).mean()
    moved = [np.abs(y - head.predict(X + step)).mean() for step in (-1e-3, 1e-3)]
    assert error <= min(moved) + 1e-9
    assert 2 * mean_pinball_loss(y, head.predict(X), alpha=0.5) == pytest.approx(error)


def test_levels_never_cross_and_hold_their_share_of_the_training_rows():
    X, Y = load_linnerud(return_X_y=True)
    found = QuantileRegression().fit(X, Y).quantiles(X * 50)
    assert (np.diff(found, axis=2) >= 0).all()
    X, y = load_diabetes(return_X_y=True)
    below = (y[:, None] <= QuantileRegression(alphas=[0.001]).fit(X, y).quantiles(X)[:, 0]).mean(axis=0)
    np.testing.assert_allclose(below, [0.05, 0.25, 0.5, 0.75, 0.95], atol=0.03)


def test_intervals_lie_between_the_levels():
    X, y = load_diabetes(return_X_y=True)
    head = QuantileRegression(alphas=[0.01]).fit(X, y)
    found = head.quantiles(X)[:, 0]
    low, high = head.interval(X, 0.9)
    np.testing.assert_allclose(np.stack([low[:, 0], high[:, 0]]), found[:, [0, 4]].T)
    low, _ = head.interval(X, 0.7)
    np.testing.assert_allclose(low[:, 0], found[:, :2].mean(axis=1))
    np.testing.assert_array_equal(head.interval(X, 0.99)[1][:, 0], found[:, 4])


def test_validation_rows_choose_the_penalty():
    X, y = load_diabetes(return_X_y=True)
    head = QuantileRegression([0.25, 0.5], [0.001, 3.0]).fit(X[:300], y[:300], validation=(X[300:], y[300:]))
    assert head.alpha_ == 0.001
    assert [candidate["alpha"] for candidate in head.selection_["searched"]] == [0.001, 3.0]
    alone = QuantileRegression([0.25, 0.5], [0.001]).fit(X[:300], y[:300])
    np.testing.assert_allclose(head.before_refit().quantiles(X), alone.quantiles(X))
    assert QuantileRegression([0.5], [0.1, 1.0]).fit(X, y).selection_["on"] == "a tenth of the training rows"


@pytest.mark.slow
def test_calibrated_quantiles_hold_the_level_where_one_width_for_all_rows_does_not():
    """The line of Romano et al. (2019), on 40 draws of 500 rows to fit on, to calibrate on and to test on."""
    inside = {"ridge": [], "quantile": [], "gaussian": []}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X = rng.uniform(size=(1500, 1))
        y = 2 * X[:, 0] + (0.1 + 1.2 * X[:, 0]) * rng.normal(size=1500)
        for name, head in (
            ("ridge", RidgeNumbers([1.0])),
            ("quantile", QuantileRegression([0.05, 0.5, 0.95], [0.001])),
            ("gaussian", GaussianHead([0.001])),
        ):
            head.fit(X[:500], y[:500])
            head.keep_margin(margins(*head.ends(X[500:1000], 0.9), y[500:1000, None], 0.9), 0.9)
            low, high = (ends[:, 0] for ends in head.predict_interval(X[1000:]))
            held = (low <= y[1000:]) & (y[1000:] <= high)
            inside[name].append((held.mean(), held[X[1000:, 0] > 0.8].mean()))
    everywhere, where_wide = np.transpose([np.mean(inside[name], axis=0) for name in ("ridge", "quantile", "gaussian")])
    np.testing.assert_allclose(everywhere, 0.9, atol=0.01)
    assert where_wide[0] < 0.8
    assert where_wide[1] == pytest.approx(0.9, abs=0.03)
    assert 0.9 < where_wide[2] < 0.97  # the logarithm of the scale is no line here


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"levels": [0.1, 0.9]}, "expected numbers between 0 and 1 with 0.5 among them"),
        ({"levels": [0.5, 1.0]}, "expected numbers between 0 and 1"),
        ({"levels": [0.5, 0.5]}, "names one twice"),
        ({"alphas": [-1.0]}, "are no penalties"),
    ],
)
def test_levels_and_penalties_that_are_none_are_refused(changes, text):
    with pytest.raises(InputError, match=text):
        QuantileRegression(**changes).check_parameters()
