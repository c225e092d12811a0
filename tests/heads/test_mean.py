import numpy as np
import pytest
from sklearn.dummy import DummyRegressor

from probe.heads.mean import TrainingMean

X, Y = np.zeros((7, 2)), np.random.default_rng(0).normal(size=(7, 3)) ** 2


def test_predicts_what_the_constant_of_scikit_learn_predicts():
    peer = DummyRegressor(strategy="mean").fit(X, Y)
    np.testing.assert_allclose(TrainingMean().fit(X, Y).predict(X), peer.predict(X))


def test_validation_rows_are_training_rows_too():
    head = TrainingMean().fit(X[:4], Y[:4, 0], validation=(X[4:], Y[4:, 0]))
    assert head.predict(X[:2]) == pytest.approx([Y[:, 0].mean()] * 2)
    assert head.score(X, Y[:, 0]) == pytest.approx(0)
