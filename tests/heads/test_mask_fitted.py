"""Between words and a linear probe: what either end is, and that the optimum is one."""

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from probe.core.errors import InputError
from probe.heads.label_words import LabelWords
from probe.heads.mask_fitted import MaskFitted


def contract_case():
    return {"class_features": np.eye(3, 4), "Cs": (0.0, 0.01, 1.0)}


def states(n=120, seed=0):
    """States that lean towards two words of each of three classes, and those words with their biases."""
    rng = np.random.default_rng(seed)
    words = rng.normal(size=(3, 2, 9))
    words[2, 1] = np.nan  # one class has a single word
    y = rng.integers(0, 3, n)
    return (0.5 * words[y, 0, :8] + rng.normal(size=(n, 8))).astype(np.float32), y, words


def test_without_a_fit_it_is_the_words_alone():
    X, y, words = states()
    plain = LabelWords(class_features=words).fit(X, y)
    np.testing.assert_allclose(MaskFitted(Cs=[0.0], class_features=words).fit(X, y).logits(X), plain.logits(X))
    assert plain.word_biases_[2, 1] == -np.inf
    near = MaskFitted(Cs=[1e-9], class_features=words).fit(X, y).logits(X)
    np.testing.assert_allclose(near, plain.logits(X), atol=1e-5)


def test_far_from_the_words_it_is_a_linear_probe():
    X, y, words = states()
    words[:, 1] = np.nan  # a single word each, so that both families of classifiers are one
    head = MaskFitted(Cs=[1e4], class_features=words, tol=1e-9, max_iter=5000).fit(X, y)
    probe = LogisticRegression(C=1e6, tol=1e-10, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(log_softmax(head.logits(X), 1), probe.predict_log_proba(X), atol=0.02)


@pytest.mark.parametrize("C", [0.01, 1.0])
def test_no_step_from_the_solution_is_better(C):
    X, y, words = states()
    head = MaskFitted(Cs=[C], class_features=words, tol=1e-9).fit(X, y)
    start = LabelWords(class_features=words).fit(X, y).logits(X)

    def objective(W, b):
        loss = -log_softmax(start + X.astype(float) @ W.T + b, axis=1)[np.arange(len(y)), y].sum()
        return C * loss + (np.square(W).sum() + np.square(b).sum()) / 2

    best, rng = objective(head.coef_, head.intercept_), np.random.default_rng(1)
    for _ in range(20):
        assert (
            objective(head.coef_ + 1e-3 * rng.normal(size=(3, 8)), head.intercept_ + 1e-3 * rng.normal(size=3)) > best
        )


def test_c_is_chosen_on_validation_rows_and_the_winner_is_fitted_on_all():
    X, y, words = states()
    given = {"Cs": [0.0, 0.01, 1.0], "class_features": words, "tol": 1e-9}
    head = MaskFitted(**given).fit(X[:80], y[:80], validation=(X[80:], y[80:]))
    alone = {C: MaskFitted(**given | {"Cs": [C]}) for C in given["Cs"]}
    scores = {C: float((one.fit(X[:80], y[:80]).predict(X[80:]) == y[80:]).mean()) for C, one in alone.items()}
    assert {c["C"]: c["score"] for c in head.selection_["searched"]} == scores
    np.testing.assert_allclose(head.logits(X), alone[head.C_].fit(X, y).logits(X), atol=1e-4)


def test_parameters_that_cannot_work_are_refused():
    X, y, words = states()
    for wrong, told in (
        ({"Cs": [-1.0]}, "Cs is .*, expected numbers from 0"), ({"temperature": 0}, "temperature is 0, expected a pos"),
        ({"class_features": None}, r"MaskFitted has no class_features: run it with backbone\.words=true"),
        ({"class_features": words[:2]}, r"class_features has shape \(2, 2, 9\), expected weights and bias of width 8"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=told):
            MaskFitted(**{"class_features": words} | wrong).fit(X, y)
