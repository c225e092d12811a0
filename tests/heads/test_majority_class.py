import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from probe.heads.majority_class import MajorityClass


def rows(n=90, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)), rng.choice(n_classes, n, p=[0.1, 0.5, 0.2, 0.2])


def test_probabilities_are_those_of_the_dummy_of_scikit_learn():
    X, y = rows()
    peer = DummyClassifier(strategy="prior").fit(X, y)
    head = MajorityClass().fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), peer.predict_proba(X), rtol=1e-12)
    np.testing.assert_array_equal(head.predict(X), peer.predict(X))


def test_features_move_no_prediction():
    X, y = rows()
    np.testing.assert_array_equal(MajorityClass().fit(X, y).logits(X), MajorityClass().fit(-7 * X, y).logits(X[::-1]))


def test_of_equal_classes_the_first_is_predicted():
    assert set(MajorityClass().fit(np.zeros((4, 1)), ["b", "a", "a", "b"]).predict(np.ones((3, 1)))) == {"a"}


def test_validation_rows_are_further_training_rows():
    X, y = rows()
    halves = MajorityClass().fit(X[::2], y[::2], validation=(X[1::2], y[1::2]))
    np.testing.assert_array_equal(halves.logits(X), MajorityClass().fit(X, y).logits(X))


def test_several_labels_get_the_log_odds_of_their_counts():
    X, _ = rows(10)
    targets = np.zeros((10, 3), int)
    targets[:7, 0] = targets[:2, 1] = 1
    head = MajorityClass().fit(X[:6], targets[:6], validation=(X[6:], targets[6:]))
    odds = np.array([7.5 / 3.5, 2.5 / 8.5, 0.5 / 10.5])
    np.testing.assert_allclose(head.logits(X), np.tile(np.log(odds), (10, 1)))
    assert head.classes_.tolist() == [0, 1, 2]


def test_it_is_saved_and_loaded(tmp_path):
    X, y = rows()
    head = MajorityClass().fit(X, y)
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(MajorityClass.load(tmp_path / "head.safetensors").logits(X), head.logits(X))


def test_one_class_alone_is_refused():
    with pytest.raises(ValueError, match="y holds one class only"):
        MajorityClass().fit(np.zeros((3, 1)), [1, 1, 1])
