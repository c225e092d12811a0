import numpy as np
import pytest
from sklearn.svm import LinearSVC

from probe.core.errors import InputError
from probe.heads.shared.att_svm import best_tokens, check_size, least_norm, pairs


def draw(n=6, n_tokens=8, width=60, seed=0):
    random = np.random.default_rng(seed)
    X, best = random.standard_normal((n, n_tokens, width)), random.integers(0, n_tokens, n)
    return X, best, np.ones((n, n_tokens), dtype=bool)


def test_one_row_of_two_tokens_has_the_closed_form():
    X, best, mask = draw(n=1, n_tokens=2)
    apart = X[0, best[0]] - X[0, 1 - best[0]]
    np.testing.assert_allclose(least_norm(pairs(X, best, mask)), apart / (apart @ apart), atol=1e-12)


def test_all_pairs_are_set_apart_and_the_query_is_made_of_those_that_just_are():
    G = pairs(*draw())
    query = least_norm(G)
    margins = G @ query
    assert margins.min() > 1 - 1e-8
    support = G[margins < 1 + 1e-8]
    weights, *_ = np.linalg.lstsq(support.T, query, rcond=None)
    np.testing.assert_allclose(weights @ support, query, atol=1e-8)
    assert (weights > -1e-8).all()


def test_the_query_is_that_of_a_linear_svm_of_hard_margin():
    G = pairs(*draw())
    svm = LinearSVC(C=1e4, loss="hinge", fit_intercept=False, tol=1e-9, max_iter=1_000_000)
    svm.fit(np.concatenate([G, -G]), np.repeat([1, 0], len(G)))
    np.testing.assert_allclose(least_norm(G), svm.coef_[0], atol=1e-4)


def test_a_rotation_of_the_tokens_rotates_the_query_and_a_shift_of_a_row_moves_nothing():
    X, best, mask = draw()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((60, 60)))
    expected = least_norm(pairs(X, best, mask))
    np.testing.assert_allclose(least_norm(pairs(X @ rotation, best, mask)), expected @ rotation, atol=1e-9)
    shifted = X + np.random.default_rng(2).standard_normal((6, 1, 60))
    np.testing.assert_allclose(least_norm(pairs(shifted, best, mask)), expected, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_tokens_of_another_size_change_the_length_alone(scale):
    X, best, mask = draw()
    np.testing.assert_allclose(least_norm(scale * pairs(X, best, mask)) * scale, least_norm(pairs(X, best, mask)))


def test_tokens_that_are_not_there_set_no_bound():
    X, best, mask = draw()
    X = np.concatenate([X, np.full((6, 2, 60), 1e9)], axis=1)
    mask = np.pad(mask, ((0, 0), (0, 2)))
    assert len(pairs(X, best, mask)) == 6 * 7
    logits = np.zeros((6, 10, 3))
    logits[:, 8, 1] = 5
    logits[:, 2, 1] = 1
    assert (best_tokens(logits, np.ones(6, dtype=int), mask) == 2).all()


def test_the_best_token_has_the_largest_margin_over_other_classes():
    logits = np.array([[[5.0, 5.0, 0.0], [1.0, 0.0, 0.0]]])
    assert best_tokens(logits, np.array([0]), np.ones((1, 2), dtype=bool)) == [1]


def test_rows_that_no_query_sets_apart_are_refused():
    X, best, mask = draw(width=2)
    with pytest.raises(
        InputError, match=r"no query sets the best token of every row apart .*\(42 pairs in 2 dimensions\)"
    ):
        least_norm(pairs(X, best, mask))
    with pytest.raises(
        InputError, match=r"given 500 rows of 65 tokens, expected at most 20000 .* give 312 rows or fewer"
    ):
        check_size(500, 65)
