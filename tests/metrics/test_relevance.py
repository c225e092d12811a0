import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from probe.metrics.evaluate import measure
from probe.metrics.relevance import mean
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import restored
from probe.metrics.shared.scores.relevance import NAMES, RelevanceScores

# nDCG@10, MAP@100, recall@100 and reciprocal rank of each query of `graded`, of pytrec_eval-terrier 0.5.11; those of
# queries whose first relevant document is behind rank 10 are 0 at 10.
TREC_EVAL = [
    [0.332932, 0.213673, 1.0, 0.333333],
    [0.0, 0.028966, 0.625, 0.0],
    [0.0, 0.049682, 0.714286, 0.0],
    [0.183778, 0.105773, 1.0, 0.142857],
    [0.217042, 0.175175, 1.0, 0.5],
]


def graded():
    """(5, 130) scores without ties, and grades from 0 to 3, -1 where a document is not judged."""
    q, d = np.indices((5, 130))
    return -((37 * d + 11 * q) % 131), np.where(d * (q + 3) % 13 == q % 2, d % 4, -1)


def scores_of(similarities, grades):
    """Of Q queries, rows 0..Q-1, and their documents behind them."""
    queries, documents = np.nonzero(grades > 0)
    ranks = np.argsort(np.argsort(-similarities, axis=1, kind="stable"), axis=1)[queries, documents]
    labels = np.concatenate([(grades > 0).sum(axis=1), np.full(grades.shape[1], -1)])
    return RelevanceScores.of(labels, queries, ranks.astype(np.float64), grades[queries, documents])


def drawn(n=200, seed=0):
    """Scores of queries of which each is easy or hard."""
    rng = np.random.default_rng(seed)
    grades = rng.integers(0, 3, (n, 30)) * (rng.random((n, 30)) < 0.1)
    return scores_of(rng.random((n, 1)) * 3 * grades + rng.normal(size=(n, 30)), grades)


def test_measures_of_queries_are_those_of_trec_eval():
    np.testing.assert_allclose(scores_of(*graded()).of_query[:5], TREC_EVAL, atol=6e-7)


def test_ndcg_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    similarities, grades = rng.normal(size=(40, 25)), rng.integers(0, 4, (40, 25))
    found = measure({"relevance": scores_of(similarities, grades)}).metrics["ndcg_at_10"]
    assert found.value == pytest.approx(ndcg_score(grades, similarities, k=10), abs=1e-7)


def test_what_is_never_found_lacks_in_the_best_order_no_less():
    scores = RelevanceScores.of(np.array([2, -1, -1]), np.array([0, 0]), np.array([np.inf, 0.0]), np.array([1, 1]))
    gain = 1 / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(scores.of_query[0], [gain, 0.5, 0.5, 1.0], atol=1e-7)


def test_documents_and_queries_without_a_relevant_one_count_for_none():
    some, more = scores_of(*graded()), [np.vstack([values, values[:1] * 0]) for values in graded()]
    one, other = (measure({"relevance": scores}).metrics for scores in (some, scores_of(*more)))
    assert one == other
    assert set(one) == set(NAMES)
    assert [name for name in NAMES if known()[name].shown] == ["ndcg_at_10"]
    assert np.isnan(some.of_query[5:]).all()


def test_means_are_over_queries_and_rows_give_them():
    scores = scores_of(*graded())
    found = measure({"relevance": scores})
    for name, values in zip(NAMES, np.array(TREC_EVAL).T, strict=True):
        assert found.metrics[name].value == pytest.approx(values.mean(), abs=1e-6)
        assert found.rows[name].mean() == pytest.approx(found.metrics[name].value)


def test_intervals_cover_the_truth_of_other_queries():
    value = {name: i.value for name, i in measure({"relevance": drawn(20_000, seed=9)}).metrics.items()}
    covered = dict.fromkeys(value, 0)
    for seed in range(200):
        for name, interval in measure({"relevance": drawn(60, seed=seed)}).metrics.items():
            covered[name] += interval.low <= value[name] <= interval.high
    assert min(covered.values()) >= 180


def test_where_everything_is_found_the_interval_is_of_queries_and_not_of_documents():
    n = 50
    labels = np.concatenate([np.ones(n, np.int64), np.full(5000, -1)])
    perfect = RelevanceScores.of(labels, np.arange(n), np.zeros(n), np.ones(n, np.int64))
    for interval in measure({"relevance": perfect}).metrics.values():
        assert interval.value == interval.high == 1
        assert 0.9 < interval.low < 0.95  # Wilson's of 50


def test_what_a_run_keeps_gives_the_values_of_the_rows_again():
    scores = drawn()
    found, again = measure({"relevance": scores}), restored(scores.arrays(), "relevance")
    for name, rows in found.rows.items():
        assert set(known()[name].needs) <= set(scores.arrays())
        np.testing.assert_array_equal(known()[name].rows(again), rows)


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    scores = scores_of(*graded())
    return {"metrics": measure({"relevance": scores}).metrics, "slopes": mean(scores, "ndcg_at_10")[1][:5]}
