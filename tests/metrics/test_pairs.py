import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from probe.metrics.evaluate import measure
from probe.metrics.pairs import PairScores, accuracy, best_thresholds, f1


def of_numbers(n=100, seed=0, slope=1.0):
    """Pairs whose rows lie apart; numbers are grades, so that many are equal."""
    random = np.random.default_rng(seed)
    similarity = random.normal(size=n)
    number = np.clip(np.rint(slope * similarity + random.normal(size=n)), -2, 2)
    return PairScores("number", np.tile(number, 2), np.arange(n), np.arange(n) + n, similarity)


def of_classes(n=100, seed=0, apart=1.0):
    random = np.random.default_rng(seed)
    match = random.random(n) < 0.4
    similarity = (random.normal(size=n) + apart * match).round(2)
    pairs = np.arange(2 * n).reshape(n, 2).T
    return PairScores("one_class", match.repeat(2).astype(np.int64), *pairs, similarity, 1, (0.4, 0.7))


def test_correlations_are_those_of_scipy():
    scores = of_numbers()
    found = measure({"pairs": scores}).metrics
    assert set(found) == {"pair_spearman", "pair_pearson"}
    assert found["pair_spearman"].value == pytest.approx(spearmanr(scores.similarity, scores.numbers)[0], abs=1e-12)
    assert found["pair_pearson"].value == pytest.approx(pearsonr(scores.similarity, scores.numbers)[0], abs=1e-12)


def test_measures_of_classes_are_those_of_scikit_learn():
    scores = of_classes()
    found = {name: interval.value for name, interval in measure({"pairs": scores}).metrics.items()}
    expected = {
        "pair_average_precision": average_precision_score(scores.matches, scores.similarity),
        "pair_auroc": roc_auc_score(scores.matches, scores.similarity),
        "pair_f1": f1_score(scores.matches, scores.similarity > 0.4),
        "pair_accuracy": accuracy_score(scores.matches, scores.similarity > 0.7),
    }
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_class_that_is_not_the_second_one_may_match():
    scores = of_classes()
    other = PairScores("one_class", 1 - scores.labels, scores.first, scores.second, scores.similarity, 0, (0.4, 0.7))
    assert measure({"pairs": other}).metrics == measure({"pairs": scores}).metrics


@pytest.mark.parametrize("make", [of_numbers, of_classes])
def test_a_pair_counts_once(make):
    """The variance of the mean of the rows is that of the pairs; the second row of each has no part."""
    scores = make()
    found = measure({"pairs": scores})
    for name, rows in found.rows.items():
        assert rows.mean() == pytest.approx(found.metrics[name].value)
        np.testing.assert_allclose(rows[scores.second], found.metrics[name].value)
        assert rows[scores.first].std() > 0
    kept = scores.arrays()["similarity"]
    assert (kept[scores.first] == scores.similarity).all()
    assert (kept[scores.second] == scores.similarity).all()


def test_derivatives_at_a_threshold_are_those_by_the_weight_of_a_pair():
    scores = of_classes(n=30)
    said = scores.similarity > 0.4
    for statistic, weighted in ((f1, f1_score), (accuracy, accuracy_score)):
        value, slopes = statistic(scores.matches, said)
        assert value == pytest.approx(weighted(scores.matches, said))
        for i in range(30):
            ends = [
                weighted(scores.matches, said, sample_weight=np.ones(30) + step * (np.arange(30) == i))
                for step in (1e-5, -1e-5)
            ]
            assert slopes[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-7)


def test_thresholds_are_the_best_of_all():
    for seed in range(3):
        scores = of_classes(n=25, seed=seed)
        of_f1, of_accuracy = best_thresholds(scores.similarity, scores.matches)
        tried = np.concatenate([[-np.inf, np.inf], scores.similarity, scores.similarity + 0.005])
        best = max(f1_score(scores.matches, scores.similarity > at) for at in tried)
        assert f1_score(scores.matches, scores.similarity > of_f1) == pytest.approx(best)
        best = max(accuracy_score(scores.matches, scores.similarity > at) for at in tried)
        assert accuracy_score(scores.matches, scores.similarity > of_accuracy) == pytest.approx(best)
    assert best_thresholds(np.array([1.0, 2, 3]), np.array([True, True, True]))[1] == -np.inf
    assert best_thresholds(np.array([1.0, 2, 3, 4]), np.array([True, False, False, False]))[1] == np.inf


@pytest.mark.parametrize("make", [of_numbers, of_classes])
def test_intervals_over_pairs_cover_the_truth(make):
    """With the thresholds as they are. At 120 pairs, of which the truth is that of 200,000."""
    true = {name: v.value for name, v in measure({"pairs": make(n=200_000, seed=9)}).metrics.items()}
    covered = dict.fromkeys(true, 0)
    for seed in range(200):
        for name, found in measure({"pairs": make(n=120, seed=seed)}).metrics.items():
            covered[name] += found.low <= true[name] <= found.high
    assert min(covered.values()) >= 180, covered


def test_a_perfect_order_of_classes_has_an_interval_with_a_width():
    scores = of_classes(n=60, apart=50.0)
    for name, interval in measure({"pairs": scores}).metrics.items():
        if name in ("pair_average_precision", "pair_auroc"):
            assert interval.value == 1
            assert 0.8 < interval.low < 0.95


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    return {kind: measure({"pairs": make()}).metrics for kind, make in (("n", of_numbers), ("c", of_classes))}
