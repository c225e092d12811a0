import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import ndcg_score

from probe.core.abilities import MeasuresFeatures
from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.heads.document_retrieval import DocumentRetrieval
from probe.heads.shared.base import AnyHead
from probe.metrics.evaluate import measure


def drawn(n_documents=60, n_queries=20, width=16, seed=0):
    """Documents and queries in no order, y, grades (N, N) of documents for queries, and judgements of all of them."""
    rng = np.random.default_rng(seed)
    n = n_documents + n_queries
    X = rng.normal(size=(n, width)).astype(np.float32) * rng.uniform(0.5, 2, (n, 1)).astype(np.float32)
    is_query = rng.permutation(np.arange(n) < n_queries)
    grades = rng.integers(1, 4, (n, n)) * (rng.random((n, n)) < 0.1) * is_query[:, None] * ~is_query
    first = np.flatnonzero(~is_query)[:2]
    grades[np.ix_(is_query, first)] = [2, 1]  # each query has a relevant one
    X[is_query] += 0.15 * (grades @ X)[is_query]
    query, document = np.nonzero(is_query[:, None] & ~is_query)
    y = np.where(is_query, (grades > 0).sum(axis=1), -1)
    return X, y, grades, np.stack([query, document, grades[query, document]], axis=1)


def values_of(X, y, judgements, **parameters):
    head = DocumentRetrieval(judgements=judgements, device="cpu", **parameters).fit(None, None)
    return {name: interval.value for name, interval in measure(head.measure(X, y)).metrics.items()}


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_measures_equal_those_of_a_plain_sort_and_of_scikit_learn(metric):
    X, y, grades, judgements = drawn()
    found, rows = values_of(X, y, judgements, metric=metric), X.astype(np.float64)
    rows = rows / np.linalg.norm(rows, axis=1)[:, None] if metric == "cosine" else rows
    similarities, of = (rows @ rows.T)[y >= 0][:, y < 0], grades[y >= 0][:, y < 0]
    assert found["ndcg_at_10"] == pytest.approx(ndcg_score(of, similarities, k=10), abs=1e-7)
    hits = np.take_along_axis(of, np.argsort(-similarities, axis=1), axis=1) > 0
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    assert found["map_at_100"] == pytest.approx(((precision * hits).sum(axis=1) / hits.sum(axis=1)).mean(), abs=1e-7)
    first = hits.argmax(axis=1)
    assert found["mrr_at_10"] == pytest.approx(np.where(first < 10, 1 / (first + 1), 0).mean(), abs=1e-7)
    assert found["recall_at_100"] == 1
    assert 0.3 < found["ndcg_at_10"] < 0.95


def test_lengths_change_dot_products_alone():
    X, y, _, judgements = drawn()
    longer = X * np.where(y < 0, np.arange(1, len(X) + 1), 1.0)[:, None].astype(np.float32)
    one, other = (values_of(rows, y, judgements) for rows in (X, longer))
    assert one == other
    assert values_of(longer, y, judgements, metric="dot") != one


def test_judgements_of_grade_0_and_none_at_all_are_the_same():
    X, y, _, judgements = drawn()
    negative = np.where(judgements[:, 2:] == 0, -1, judgements[:, 2:])
    for others in (judgements[judgements[:, 2] > 0], np.concatenate([judgements[:, :2], negative], axis=1)):
        assert values_of(X, y, others) == values_of(X, y, judgements)


def test_a_query_is_not_shown_the_document_of_its_own_id():
    X = np.array([[1, 0], [0.9, 0.1], [0, 1], [1, 0]], dtype=np.float32)
    y, judgements, same = np.array([-1, -1, -1, 1]), [[3, 1, 1]], [[3, 0]]
    assert values_of(X, y, judgements, same_ids=same)["mrr_at_10"] == 1
    assert values_of(X, y, judgements, same_ids=same, ignore_identical_ids=False)["mrr_at_10"] == 0.5
    assert values_of(X, y, [[3, 0, 1]], same_ids=same)["recall_at_100"] == 0


def test_of_equal_documents_the_one_that_comes_first_is_found_first():
    X, y = np.ones((4, 2), dtype=np.float32), np.array([-1, 1, -1, -1])
    assert [values_of(X, y, [[1, d, 1]])["mrr_at_10"] for d in (0, 2, 3)] == pytest.approx([1, 1 / 2, 1 / 3])


def test_a_query_without_a_relevant_document_among_the_rows_counts_for_none():
    X, y, _, judgements = drawn()
    lonely = np.flatnonzero(y > 0)[0]
    without = judgements[judgements[:, 0] != lonely]
    kept = np.arange(len(X)) != lonely
    fewer = np.stack([*(np.cumsum(kept)[without[:, :2]] - 1).T, without[:, 2]], axis=1)
    assert values_of(X, y, without) == values_of(X[kept], y[kept], fewer)


def test_rows_that_train_take_no_part():
    X, y, _, judgements = drawn(seed=2)
    head = DocumentRetrieval(judgements=judgements, device="cpu")
    fits = [clone(head).fit(None, None), clone(head).fit(-X, y[::-1], validation=(X, y))]
    np.testing.assert_array_equal(*(fit.measure(X, y)["relevance"].of_query for fit in fits))


def test_rows_of_the_store_give_what_arrays_give(tmp_path):
    X, y, _, judgements = drawn(seed=3)
    np.save(tmp_path / "x.npy", np.concatenate([X[:5], X]))
    stored = RowSubset(np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(5, 5 + len(X)))
    assert values_of(stored, y, judgements) == values_of(X, y, judgements)


def test_save_and_load_leave_the_judgements_out(tmp_path):
    X, y, _, judgements = drawn()
    head = DocumentRetrieval(judgements=judgements, metric="dot").fit(None, None)
    assert isinstance(head, MeasuresFeatures)
    head.measure(X, y)
    head.save(tmp_path / "head.safetensors")
    assert (tmp_path / "head.safetensors").stat().st_size < 2000
    assert AnyHead.load(tmp_path / "head.safetensors").metric == "dot"


X, Y, _, JUDGEMENTS = drawn(12, 4)


@pytest.mark.parametrize(
    ("parameters", "rows", "text"),
    [
        ({"judgements": None}, X, "document_retrieval has no judgements, 16 rows and 16 labels, expected"),
        ({}, X[:7], "document_retrieval has its judgements, 7 rows and 16 labels, expected"),
        ({}, X * np.inf, "row 0 of X holds NaN or inf"),
        ({"judgements": [[0, 99, 1]]}, X, "judgements names rows that are no query and document of the 16, expected"),
        ({"judgements": JUDGEMENTS[:, [1, 0, 2]]}, X, "judgements names rows that are no query and document of the 16"),
        ({"same_ids": JUDGEMENTS[:1, [1, 0]]}, X, "same_ids names rows that are no query and document of the 16"),
        ({"judgements": JUDGEMENTS * [1, 1, 0]}, X, "none of the 4 queries among 16 test rows has a relevant document"),
        ({"metric": "euclidean"}, X, "metric is 'euclidean', expected cosine or dot: set head.metric=cosine"),
    ],
)
def test_what_cannot_be_measured_is_refused(parameters, rows, text):
    with pytest.raises(InputError, match=text):
        values_of(rows, Y, **{"judgements": JUDGEMENTS, **parameters})
