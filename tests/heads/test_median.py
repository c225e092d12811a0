import numpy as np
from sklearn.dummy import DummyRegressor

from probe.heads.median import TrainingMedian

X, Y = np.zeros((8, 2)), np.random.default_rng(0).normal(size=(8, 3)) ** 2


def test_predicts_what_the_constant_of_scikit_learn_predicts():
    peer = DummyRegressor(strategy="median").fit(X, Y)
    np.testing.assert_allclose(TrainingMedian().fit(X, Y).predict(X), peer.predict(X))


def test_no_other_constant_has_a_smaller_absolute_error():
    value = TrainingMedian().fit(X, Y[:, 0]).value_[0]
    grid = np.linspace(Y[:, 0].min(), Y[:, 0].max(), 200)
    best = min(np.abs(Y[:, 0] - other).mean() for other in grid)
    assert np.abs(Y[:, 0] - value).mean() <= best + 1e-12
