import numpy as np
import pytest
from sklearn.linear_model import Ridge

from probe.core.errors import InputError
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.heads.shared.ridge_labels import RidgeLabels


def draw(n=200, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    return X, (X[:, :3] + rng.normal(size=(n, 3)) > [0, 0.5, 1]).astype(np.int64)


def test_ridge_stands_for_it_and_is_that_of_scikit_learn(tmp_path):
    X, y = draw()
    head = RidgeProbe([7.0]).for_target("labels").fit(X, y)
    assert isinstance(head, RidgeLabels)
    theirs = Ridge(7.0).fit(X, 2 * y - 1)
    np.testing.assert_allclose(head.logits(X), theirs.predict(X), atol=1e-10)
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(Head.load(tmp_path / "head.safetensors").predict(X), head.predict(X))


def test_the_penalty_of_best_map_wins_and_is_fitted_again_on_both():
    X, y = draw()
    head = RidgeLabels([1e-3, 1e4, 1e8]).fit(X[:100], y[:100], validation=(X[100:], y[100:]))
    scores = {candidate["alpha"]: candidate["score"] for candidate in head.selection_["searched"]}
    assert scores[head.alpha_] == max(scores.values())
    np.testing.assert_allclose(head.coef_, RidgeLabels([head.alpha_]).fit(X, y).coef_)
    assert head.before_refit().coef_.shape == (3, 5)
    assert RidgeLabels(3).fit(X, y).selection_["on"] == "a tenth of the training rows"


def test_a_label_of_which_no_row_is_known_leans_nowhere():
    X, y = draw(40)
    y[:, 2] = -1
    assert not RidgeLabels([1.0]).fit(X, y).logits(X)[:, 2].any()


def test_labels_that_are_no_matrix_are_refused():
    with pytest.raises(InputError, match=r"y has shape .40,. for 40 rows, expected .rows, labels."):
        RidgeLabels().fit(draw(40)[0], np.zeros(40))
