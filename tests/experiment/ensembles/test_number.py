"""Weights of predictions of numbers."""

import numpy as np
import pytest
from scipy.optimize import minimize

from probe.experiment.ensembles import labels, number


def members(n_columns=1, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(200, n_columns)) * 10 ** np.arange(n_columns)
    noise = rng.normal(size=(4, 200, n_columns)) * np.array([0.3, 0.5, 1, 3])[:, None, None]
    return y + noise * y.std(axis=0), y


@pytest.mark.parametrize("n_columns", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_those_of_a_general_solver_and_never_lose_to_a_member(n_columns, seed):
    views, y = members(n_columns, seed)

    def loss(weights):
        return float((((y - np.tensordot(weights, views, 1)) / y.std(axis=0)) ** 2).mean())

    weights = number.weigh(views, y)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    solved = minimize(loss, np.full(4, 0.25), bounds=[(0, 1)] * 4, method="SLSQP", options={"ftol": 1e-14},
                      constraints={"type": "eq", "fun": lambda w: w.sum() - 1})  # fmt: skip
    assert loss(weights) <= solved.fun + 1e-9
    assert loss(weights) <= min(loss(one) for one in np.eye(4)) + 1e-9


def test_the_unit_of_a_column_moves_no_weight():
    views, y = members(2)
    np.testing.assert_allclose(number.weigh(views * [1, 1000], y * [1, 1000]), number.weigh(views, y), atol=1e-12)


def test_a_member_without_error_gets_all_weight():
    views, y = members()
    np.testing.assert_allclose(number.weigh(np.concatenate([views, y[None]]), y), [0, 0, 0, 0, 1], atol=1e-12)


def test_labels_that_no_member_holds_possible_keep_finite_odds():
    view = np.array([[0.0, -np.inf], [-np.inf, 0.0], [np.log(0.5)] * 2])
    odds = labels.outputs(view, np.zeros((1, 3)))
    assert np.isfinite(odds).all()
    assert odds.shape == (1, 3)
    assert odds[0, 2] == 0
