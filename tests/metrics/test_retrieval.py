import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from probe.core.errors import InputError
from probe.metrics.evaluate import measure
from probe.metrics.retrieval import RetrievalScores, over_queries, ranks_found, recall


def drawn(n=40, n_rows=60, seed=0, share=0.2):
    """Whether the rows in their order are to be found, and which are junk; the first query finds nothing."""
    random = np.random.default_rng(seed)
    found = random.random((n, n_rows)) < share
    found[0] = False
    return found, random.random((n, n_rows)) < 0.3


def by_hand(found, junk, trapezoid):
    """Row by row down the list."""
    n_found, rank, hits, precision, at_r, first = sum(found & ~junk), 0, 0, 0.0, 0.0, None
    for is_found, is_junk in zip(found, junk, strict=True):
        if is_junk:
            continue
        if is_found:
            before = hits / rank if rank else 1.0
            hits += 1
            own = hits / (rank + 1)
            precision += (before + own) / 2 if trapezoid else own
            at_r += own * (rank < n_found)
            first = rank if first is None else first
        rank += 1
    return (precision / n_found, at_r / n_found, first) if n_found else (np.nan,) * 3


@pytest.mark.parametrize("trapezoid", [False, True])
@pytest.mark.parametrize("with_junk", [False, True])
def test_values_are_those_of_a_walk_down_the_list(trapezoid, with_junk):
    found, junk = drawn()
    junk = junk if with_junk else np.zeros_like(junk)
    values = ranks_found(found, junk if with_junk else None, trapezoid=trapezoid)
    expected = np.array([by_hand(*row, trapezoid) for row in zip(found, junk, strict=True)]).T
    np.testing.assert_allclose(values, expected, atol=1e-14)


def test_average_precision_is_that_of_scikit_learn():
    found, _ = drawn()
    scores = -np.arange(found.shape[1])
    expected = [average_precision_score(row, scores) for row in found[1:]]
    np.testing.assert_allclose(ranks_found(found)[0][1:], expected)


def test_junk_counts_as_if_it_were_not_there():
    found, junk = drawn()
    for i in range(1, len(found)):
        kept = ranks_found(found[i][~junk[i]][None])
        np.testing.assert_allclose([value[0] for value in kept], [value[i] for value in ranks_found(found, junk)])


def test_hits_before_all_others_are_perfect_and_r_hits_suffice_for_map_at_r():
    found = np.arange(10) < np.array([[1], [4], [10]])
    for values, best in zip(ranks_found(found), (1.0, 1.0, 0.0), strict=True):
        assert (values == best).all()
    late = np.array([[True, True, False, False, True]])
    assert ranks_found(late)[1] == pytest.approx((1 + 1) / 3)


def scored(n=200, seed=0):
    found, junk = drawn(n, seed=seed)
    return RetrievalScores("one_class", np.arange(n), *ranks_found(found, junk))


def test_metrics_are_means_over_the_queries_that_have_something_to_find():
    scores = scored()
    found = measure({"retrieval": scores})
    counted = ~np.isnan(scores.first)
    assert 0 < (~counted).sum() < 10
    values = {name: interval.value for name, interval in found.metrics.items()}
    assert values["retrieval_map"] == pytest.approx(scores.average_precision[counted].mean())
    assert values["map_at_r"] == pytest.approx(scores.map_at_r[counted].mean())
    for k in (1, 5, 10):
        assert values[f"recall_at_{k}"] == pytest.approx((scores.first[counted] < k).mean())
    for name, rows in found.rows.items():
        assert rows.mean() == pytest.approx(values[name])


def test_derivatives_are_those_of_the_weighted_mean():
    scores = scored(30)
    for values in (scores.average_precision, scores.map_at_r):
        _, slopes = over_queries(values)
        for i in range(30):
            up, down = np.ones(30), np.ones(30)
            up[i], down[i] = 1 + 1e-4, 1 - 1e-4
            ends = [np.nansum(w * values) / w[~np.isnan(values)].sum() for w in (up, down)]
            assert slopes[i] == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=1e-7)


def test_intervals_over_queries_cover_the_truth():
    truth = np.nanmean(ranks_found(*drawn(20_000, seed=9)), axis=1)
    covered = np.zeros(2)
    for seed in range(200):
        metrics = measure({"retrieval": scored(60, seed=seed)}).metrics
        for i, name in enumerate(("retrieval_map", "map_at_r")):
            covered[i] += metrics[name].low <= truth[i] <= metrics[name].high
    assert (covered >= 180).all()


def test_where_all_queries_hit_the_interval_has_a_width():
    perfect = RetrievalScores("one_class", np.zeros(50), np.ones(50), np.ones(50), np.zeros(50))
    for interval in measure({"retrieval": perfect}).metrics.values():
        assert interval.value == interval.high == 1
        assert 0.9 < interval.low < 0.95


def test_rows_that_find_nothing_at_all_are_refused():
    nothing = np.full(3, np.nan)
    with pytest.raises(InputError, match="none of the 3 test rows has another row of its class to be found: test on"):
        RetrievalScores("one_class", np.arange(3), nothing, nothing, nothing)


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    scores = scored(60)
    return {"metrics": measure({"retrieval": scores}).metrics, "slopes": recall(scores, 5)[1][:5]}
