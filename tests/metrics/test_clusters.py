import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn import metrics as oracle

from probe.metrics.clusters import MEASURES, ClusterScores, clustering_accuracy, table_of
from probe.metrics.evaluate import measure
from probe.metrics.shared.intervals import wilson

ORACLES = {
    "v_measure": oracle.v_measure_score,
    "ami": oracle.adjusted_mutual_info_score, "ari": oracle.adjusted_rand_score,
}  # fmt: skip


def drawn(n=200, n_classes=4, n_clusters=4, noise=0.3, seed=0):
    """Classes, and clusters that mostly follow them under other numbers; sizes differ."""
    random = np.random.default_rng(seed)
    classes = np.sort(random.integers(0, n_classes**2, n)) ** 0.5 // 1
    clusters = np.where(random.random(n) < noise, random.integers(0, n_clusters, n), (classes + 1) % n_clusters)
    return classes.astype(np.int64), clusters.astype(np.int64)


def scored(n_draws=1, **how):
    pairs = [drawn(**how)] + [drawn(**{**how, "noise": 0.1 * d}) for d in range(1, n_draws)]
    return scores_of(pairs[0][0], np.stack([clusters for _, clusters in pairs], axis=1))


def scores_of(classes, clusters, halves=None):
    return ClusterScores("one_class", classes, clusters, clusters[:, :0] if halves is None else halves)


@pytest.mark.parametrize("n_clusters", [2, 4, 9])
def test_values_are_those_of_scikit_learn(n_clusters):
    classes, clusters = drawn(n_clusters=n_clusters)
    scores = scores_of(classes, clusters[:, None])
    found = {name: interval.value for name, interval in measure({"clusters": scores}).metrics.items()}
    assert set(found) == {*ORACLES, "clustering_accuracy"}
    for name, of_scikit_learn in ORACLES.items():
        assert found[name] == pytest.approx(of_scikit_learn(classes, clusters), abs=1e-12), name


def test_accuracy_is_the_best_over_all_ways_of_giving_clusters_classes():
    classes, clusters = drawn()
    best = max(np.mean(np.array(names)[clusters] == classes) for names in itertools.permutations(range(4)))
    value, _ = clustering_accuracy(table_of(classes, clusters))
    assert value == pytest.approx(best)


def weighted(name, classes, clusters, weights):
    """The measure of rows that count so often; pairs are of different rows, and what chance shares is as it was."""
    table = table_of(classes, clusters)
    if name == "ari":
        sums = [np.bincount(of, weights) for of in (classes * 9 + clusters, classes, clusters, 0 * classes)]
        own = [np.bincount(of, weights**2) for of in (classes * 9 + clusters, classes, clusters, 0 * classes)]
        S, A, B, T = (float((s**2 - o).sum()) / 2 for s, o in zip(sums, own, strict=True))
        return (S - A * B / T) / ((A + B) / 2 - A * B / T)
    p = np.zeros(table.shape)
    np.add.at(p, (classes, clusters), weights / weights.sum())
    if name == "clustering_accuracy":
        return p[linear_sum_assignment(p, maximize=True)].sum()
    a, b = p.sum(axis=1), p.sum(axis=0)
    H = -((a * np.log(a)).sum() + (b * np.log(b)).sum()) / 2
    shared = 2 * H + (p[p > 0] * np.log(p[p > 0])).sum()
    E = oracle.cluster.expected_mutual_information(table.astype(np.int64), len(classes)) if name == "ami" else 0.0
    return (shared - E) / (H - E)


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_derivatives_are_those_by_the_weight_of_each_row(name):
    classes, clusters = drawn(n=40)
    (value, slopes), _ = scores_of(classes, clusters[:, None]).measured[name]
    assert value == pytest.approx(weighted(name, classes, clusters, np.ones(40)))
    assert slopes.sum() == pytest.approx(0, abs=1e-12)
    for i in range(40):
        ends = [weighted(name, classes, clusters, np.ones(40) + step * (np.arange(40) == i)) for step in (1e-5, -1e-5)]
        assert slopes[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-7)


def test_what_clusters_are_called_and_the_order_of_rows_change_nothing():
    scores = scored(n_draws=3)
    order = np.random.default_rng(1).permutation(200)
    other = scores_of(3 - scores.labels[order], 70 - 5 * scores.clusters[order])
    for name, interval in measure({"clusters": other}).metrics.items():
        expected = measure({"clusters": scores}).metrics[name]
        assert vars(interval) == pytest.approx(vars(expected), abs=1e-12)


def test_clusters_that_are_the_classes_score_1_with_a_width():
    classes, _ = drawn()
    perfect = scores_of(classes, 3 - classes[:, None].repeat(2, axis=1))
    found = measure({"clusters": perfect})
    for name, interval in found.metrics.items():
        assert interval.value == pytest.approx(1)
        rows = 100 if name == "ari" else 200
        assert interval.low == pytest.approx(wilson(rows, rows).low, abs=1e-6), name
        np.testing.assert_allclose(found.rows[name], 1)


def test_clusters_by_chance_share_nothing_beyond_chance():
    found = measure({"clusters": scored(noise=1.0, n=2000)}).metrics
    for name in ("ari", "ami"):
        assert found[name].low < 0 < found[name].high
        assert abs(found[name].value) < 0.01


def test_draws_are_averaged_and_their_scatter_widens_the_interval():
    scores = scored(n_draws=3)
    alone = [measure({"clusters": scores_of(scores.labels, c[:, None])}) for c in scores.clusters.T]
    found = measure({"clusters": scores})
    for name, interval in found.metrics.items():
        assert interval.value == pytest.approx(np.mean([one.metrics[name].value for one in alone]))
        together, mean = found.rows[name] - interval.value, np.mean([one.rows[name] for one in alone], axis=0)
        np.testing.assert_allclose(together, (mean - interval.value) * (together.std() / mean.std()), atol=1e-12)
        assert interval.high - interval.low > max(one.metrics[name].high - one.metrics[name].low for one in alone)


def test_halves_that_differ_widen_the_interval_and_the_part_of_every_row():
    classes, clusters = drawn()
    half = np.random.default_rng(2).permutation(200) < 100
    alike = np.stack([np.where(half, classes, -1), np.where(half, -1, classes)], axis=1)
    worse = alike.copy()
    worse[~half, 1] = drawn(noise=0.8)[1][~half]
    stay, same, moved = (scores_of(classes, clusters[:, None], halves) for halves in (None, alike, worse))
    for name in MEASURES:
        assert same.measured[name][1] == stay.measured[name][1]
        (_, slopes), variance = moved.measured[name]
        assert variance > 20 * stay.measured[name][1]
        assert (slopes**2).sum() == pytest.approx(variance)
        low, high = (measure({"clusters": scores}).metrics[name].low for scores in (moved, stay))
        assert low < high - 0.05


def test_halves_of_one_class_tell_nothing():
    classes, clusters = drawn()
    halves = np.stack([np.where(classes == 0, clusters, -1), np.where(classes == 0, -1, clusters)], axis=1)
    assert scores_of(classes, clusters[:, None], halves).measured["ari"][1] == pytest.approx(
        scores_of(classes, clusters[:, None]).measured["ari"][1]
    )


def test_intervals_hold_the_measures_of_the_population_of_the_clusters():
    """Rows of one population, in clusters as they are there. `v_measure` of few rows is too high, and not asked."""
    true = {name: v.value for name, v in measure({"clusters": scored(n=100_000, seed=9)}).metrics.items()}
    names = ("ami", "ari", "clustering_accuracy")
    covered = dict.fromkeys(names, 0)
    for seed in range(200):
        found = measure({"clusters": scored(n=400, seed=seed)}).metrics
        for name in names:
            covered[name] += found[name].low <= true[name] <= found[name].high
    assert min(covered.values()) >= 180, covered


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    scores = scored(n_draws=2)
    slopes = {name: scores.measured[name][0][1][:5] for name in MEASURES}
    return {"metrics": measure({"clusters": scores}).metrics, "slopes": slopes}
