"""`linear` on classes of unequal size: weights of classes, and logits adjusted by their shares."""

import numpy as np
import pytest
from linear_rows import overlapping
from scipy.special import softmax
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from probe.core.errors import InputError
from probe.heads.linear import LinearProbe
from probe.heads.shared.frequencies import class_weights
from probe.heads.shared.multinomial import validate


@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_balanced_weights_are_those_of_scikit_learn(K, C):
    X, y = overlapping(600, K=K)
    kept = np.concatenate([np.flatnonzero(y == k)[: 120 // (k + 1)] for k in range(K)])
    X, y = X[kept], y[kept]
    peer = LogisticRegression(C=C, class_weight="balanced", tol=1e-10, max_iter=10_000).fit(X, y)
    head = LinearProbe([C], class_weight="balanced", tol=1e-12).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), peer.predict_proba(X), atol=1e-5)


def test_weights_of_classes_of_one_size_change_nothing():
    X, y = overlapping(300, K=3)
    plain = LinearProbe([1.0], tol=1e-12).fit(X, y).predict_proba(X)
    for kind in ("balanced", "effective"):
        np.testing.assert_allclose(LinearProbe([1.0], class_weight=kind, tol=1e-12).fit(X, y).predict_proba(X), plain,
                                   atol=1e-7)  # fmt: skip


def test_effective_numbers_lie_between_rows_and_classes():
    counts = np.array([100_000, 1000, 10])
    weights = class_weights(counts, "effective")
    assert (weights * counts).sum() == pytest.approx(counts.sum())
    assert 1 < weights[1] / weights[0] < 100
    assert weights[2] / weights[1] == pytest.approx(100, rel=0.06)


def test_logit_adjustment_reaches_the_balanced_bayes_error():
    rng = np.random.default_rng(0)
    centres = 2.0 * np.eye(3, 6)
    y = np.repeat([0, 1, 2], [6000, 600, 60])
    y_test = np.repeat([0, 1, 2], 4000)
    X, X_test = (rng.normal(size=(len(of), 6)) + centres[of] for of in (y, y_test))
    bayes = (X_test @ centres.T).argmax(axis=1) == y_test
    found = {t: LinearProbe([0.1], logit_adjustment=t).fit(X, y).predict(X_test) == y_test for t in (0.0, 1.0)}
    assert found[1.0].mean() > bayes.mean() - 0.02
    assert found[0.0].mean() < bayes.mean() - 0.1


def test_logit_adjustment_is_the_fit_with_shifted_logits():
    """Trained with the shift inside the loss, by another solver."""
    from scipy.optimize import minimize

    X, y = overlapping(300, d=3, K=3)
    kept = (y == 0) | (np.arange(300) % 5 == 0)
    X, y = X[kept], y[kept]
    shift, onehot = np.log(np.bincount(y) / len(y)), np.eye(3)[y]

    def loss(theta):
        W, b = theta[:9].reshape(3, 3), theta[9:]
        z = X @ W.T + b + shift
        p = softmax(z, axis=1)
        r = p - onehot
        value = -np.log(p[np.arange(len(y)), y]).sum() + 0.5 * (W**2).sum()
        return value, np.concatenate([(r.T @ X + W).ravel(), r.sum(axis=0)])

    theta = minimize(loss, np.zeros(12), jac=True, tol=1e-14).x
    expected = softmax(X @ theta[:9].reshape(3, 3).T + theta[9:], axis=1)
    head = LinearProbe([1.0], logit_adjustment=1.0, tol=1e-12).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), expected, atol=1e-4)


def test_balance_is_refused_for_several_labels_and_for_unknown_words():
    with pytest.raises(InputError, match="class_weight=balanced and logit_adjustment=0 are for one class per row"):
        LinearProbe(class_weight="balanced").for_target("labels")
    with pytest.raises(
        InputError, match="class_weight is 'x', expected one of none, balanced, effective, or weights above 0"
    ):
        LinearProbe(class_weight="x").check_parameters()


@pytest.mark.parametrize("weights", [{0: 1.0, 2: 5.0}, {"2": 5.0}], ids=["codes", "as a saved head has them"])
def test_weights_of_single_classes_are_scikit_learn_s(weights):
    X, y = load_iris(return_X_y=True)
    peer = LogisticRegression(C=0.1, class_weight={0: 1.0, 1: 1.0, 2: 5.0}, tol=1e-10, max_iter=10_000).fit(X, y)
    head = LinearProbe([0.1], class_weight=weights, tol=1e-12).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), peer.predict_proba(X), atol=1e-4)


def test_a_class_of_weight_2_is_each_of_its_rows_twice_in_the_fit_and_in_the_scores():
    X, y = overlapping(300, K=3)
    weights = {0: 1, 1: 2, 2: 5}

    def repeated(rows):
        times = np.array([weights[label] for label in y[rows]])
        return np.repeat(X[rows], times, axis=0), np.repeat(y[rows], times)

    rows, held, Cs = slice(0, 200), slice(200, 300), [0.01, 1.0]
    weighted = LinearProbe(Cs, class_weight=weights, tol=1e-12).fit(X[rows], y[rows], validation=(X[held], y[held]))
    peer = LinearProbe(Cs, tol=1e-12).fit(*repeated(rows), validation=repeated(held))
    np.testing.assert_allclose(weighted.scores_, peer.scores_)
    np.testing.assert_allclose(weighted.coefs_path_, peer.coefs_path_, atol=1e-5)
    assert weighted.C_ == peer.C_
    np.testing.assert_allclose(weighted.coef_, peer.coef_, atol=1e-5)


def test_rows_of_a_class_that_was_not_learnt_count_once_where_weights_are_given():
    """Of two classes of weight 9 one is unknown: its rows are wrong, and weigh no more than others."""
    X, y = overlapping(300, K=3)
    rows, held = y < 2, np.arange(300) % 4 == 0
    known = LinearProbe([0.01, 1.0], class_weight={0: 1.0, 1: 1.0}, refit=False)
    head = LinearProbe([0.01, 1.0], class_weight={0: 1.0, 1: 1.0, 2: 9.0}, refit=False)
    found = [one.fit(X[rows & ~held], y[rows & ~held], validation=(X[held], y[held])).scores_ for one in (known, head)]
    np.testing.assert_allclose(*found)
    heavy = LinearProbe([0.01, 1.0], class_weight={0: 1.0, 1: 9.0}, refit=False)
    heavy.fit(X[rows & ~held], y[rows & ~held], validation=(X[held], y[held]))
    right = heavy.logits(X[held]).argmax(axis=1) == y[held]  # of the C that was chosen
    weights = np.where(y[held] == 1, 9.0, 1.0)
    assert heavy.scores_.max() == pytest.approx((weights * right).sum() / weights.sum())


def test_of_equal_scores_the_lower_log_loss_counts_rows_as_the_scores_do():
    """Both Cs are wrong on the same four rows, of the heavy class, the larger one surer: thirty light rows gain."""
    X, y, weights = np.array([[-2.0], [-1.5], [1.5], [2.0]]), np.array([0, 0, 1, 1]), {0: 1, 1: 5}
    held, held_y = np.array([[-1.2]] * 30 + [[-1.0]] * 4 + [[2.0]] * 2), np.repeat([0, 1], [30, 6])
    times = np.array([weights[label] for label in held_y])
    parts = (held, held_y), (np.repeat(held, times, axis=0), np.repeat(held_y, times))
    head = LinearProbe([1.0, 10.0], class_weight=weights, refit=False).fit(X, y, validation=parts[0])
    assert len(set(head.scores_)) == 1
    plain, weighted = (validate(*rows, head.coefs_path_, head.intercepts_path_, "none", "cpu")[1] for rows in parts)
    assert (plain.argmin(), weighted.argmin()) == (1, 0)
    assert head.C_ == 1.0
