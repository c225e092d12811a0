"""Weighted counts of words: the numbers of scikit-learn, from ids that differ in number from row to row."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from topics import topics

from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.core.ragged import RaggedRows
from probe.heads.tfidf_linear import TfidfLinear


def expected(X, y, train, test, C):
    """By scikit-learn alone, over all ids that occur anywhere."""
    vocabulary, columns = np.unique(X.values, return_inverse=True)
    rows = np.repeat(np.arange(len(X)), X.lengths)
    counts = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(X), len(vocabulary)))
    weighting = TfidfTransformer().fit(counts[train])
    seen = np.asarray(counts[train].sum(axis=0)).ravel() > 0  # what no training row holds has no part in a row's length
    given, asked = (TfidfTransformer().fit(counts[train][:, seen]).transform(counts[r][:, seen]) for r in (train, test))
    assert len(weighting.idf_) > seen.sum()
    model = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(given, y[train])
    return model, asked


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn(n_classes):
    X, y = topics(n_classes=n_classes)
    train, test = np.arange(100), np.arange(100, 150)
    model, asked = expected(X, y, train, test, 10.0)
    head = TfidfLinear(Cs=[10.0], tol=1e-10).fit(RowSubset(X, train), y[train])
    np.testing.assert_allclose(head.predict_proba(RowSubset(X, test)), model.predict_proba(asked), atol=1e-5)
    assert not hasattr(head, "selection_")


def test_c_is_the_best_on_the_validation_rows_and_the_winner_is_fitted_on_all():
    X, y = topics()
    parts = train, held, test = np.arange(80), np.arange(80, 110), np.arange(110, 150)
    accuracies = {C: model.score(asked, y[held]) for C in (0.01, 1.0, 100.0)
                  for model, asked in [expected(X, y, train, held, C)]}  # fmt: skip
    rows = [RowSubset(X, part) for part in parts]
    head = TfidfLinear(Cs=list(accuracies), tol=1e-10).fit(rows[0], y[train], validation=(rows[1], y[held]))
    assert {c["C"]: c["score"] for c in head.selection_["searched"]} == pytest.approx(accuracies)
    assert accuracies[head.C_] == max(accuracies.values())
    every = np.concatenate([train, held])
    model, asked = expected(X, y, every, test, head.C_)
    np.testing.assert_allclose(head.predict_proba(rows[2]), model.predict_proba(asked), atol=1e-5)
    before, (model, asked) = head.before_refit(), expected(X, y, train, held, head.C_)
    np.testing.assert_allclose(before.predict_proba(rows[1]), model.predict_proba(asked), atol=1e-5)


def test_nothing_of_other_rows_reaches_the_fit():
    X, y = topics()
    poisoned = RaggedRows(X.values.copy(), X.offsets)
    poisoned.values[X.offsets[100] :] = 5
    train, test = np.arange(100), np.arange(100, 150)
    plain, other = (TfidfLinear(Cs=[1.0, 10.0]).fit(RowSubset(rows, train), y[train]) for rows in (X, poisoned))
    np.testing.assert_array_equal(plain.logits(RowSubset(X, test)), other.logits(RowSubset(X, test)))
    assert set(plain.vocabulary_) == set(X.values[: X.offsets[100]])


def test_the_order_of_words_is_irrelevant_and_unknown_ones_count_for_nothing():
    X, y = topics()
    head = TfidfLinear(Cs=[1.0]).fit(X, y)
    one = X[3][None]
    np.testing.assert_allclose(head.logits(one[:, ::-1]), head.logits(one))
    np.testing.assert_allclose(head.logits(np.append(one, [[5, 6]], axis=1)), head.logits(one))
    np.testing.assert_allclose(head.logits(np.array([[5, 6]])), head.intercept_[None])


def test_a_class_that_validation_rows_alone_have_is_known_after_the_refit():
    X, y = topics()
    train, held = np.flatnonzero(y[:100] < 2), np.arange(100, 150)
    given = {"validation": (RowSubset(X, held), y[held])}
    alone = TfidfLinear(Cs=[1.0, 10.0], refit=False).fit(RowSubset(X, train), y[train], **given)
    assert (alone.logits(X)[:, 2] == -np.inf).all()
    assert (TfidfLinear(Cs=[1.0, 10.0]).fit(RowSubset(X, train), y[train], **given).predict(X) == 2).any()


@pytest.mark.parametrize("X", [np.ones((4, 3)), np.ones(4, int), np.ones((4, 0), int)])
def test_what_is_no_row_of_ids_is_refused(X):
    with pytest.raises(InputError, match=r"token_ids has shape \(4.*\) and dtype .*, expected whole numbers \(N, T\)"):
        TfidfLinear().fit(X, [0, 1, 0, 1])


def test_parameters_that_cannot_work_are_refused():
    X, y = topics(20)
    for wrong, told in (({"Cs": [0.0]}, "Cs is"), ({"tol": 0}, "tol is 0 and max_iter 1000, expected a positive")):
        with pytest.raises(InputError, match=told):
            TfidfLinear(**wrong).fit(X, y)
