from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from probe.leaderboard import statistics
from probe.leaderboard.pairs import compare, difference
from probe.leaderboard.statistics import Scores, holm, intervals, mcnemar, permutation, scores


def gather(values: np.ndarray) -> Scores:
    """(R, N) values as scores of seeds 0..R-1."""
    return scores(list(values), None, range(len(values)), values.shape[1])


def bernoulli(seed: int, n_seeds: int, n_rows: int, p: float = 0.8) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(size=(n_seeds, n_rows)) < p).astype(float)


def test_one_seed_of_a_proportion_gives_wilsons_interval() -> None:
    values = bernoulli(0, 1, 137)
    (low,), (high,) = intervals([gather(values)], proportion=True)
    expected = stats.binomtest(int(values.sum()), 137).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_error_still_gives_width() -> None:
    (low,), (high,) = intervals([gather(np.ones((3, 50)))], proportion=True)
    assert high == 1
    assert low == pytest.approx(stats.binomtest(50, 50).proportion_ci(0.95, method="wilson").low)


def test_equal_seeds_say_no_more_than_one() -> None:
    one = bernoulli(1, 1, 200)
    assert np.allclose(intervals([gather(one)])[0], intervals([gather(np.repeat(one, 4, axis=0))])[0])


def test_seeds_alone_give_students_interval() -> None:
    """Every row alike: only the seeds vary."""
    means = np.array([0.7, 0.8, 0.85, 0.65])
    (low,), (high,) = intervals([gather(np.repeat(means[:, None], 50, axis=1))])
    expected = stats.t.interval(0.95, 3, means.mean(), stats.sem(means))
    assert (low, high) == pytest.approx(expected, rel=2e-3)


def test_variance_shares_add_up_to_two_way_anova() -> None:
    values = np.random.default_rng(0).normal(size=(4, 1)) + np.random.default_rng(1).normal(size=(4, 60))
    R, N = values.shape
    residual = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    ms_rest = (residual**2).sum() / ((R - 1) * N)
    variance = gather(values).variance
    assert variance.rest == pytest.approx(ms_rest / (R * N))
    assert variance.rows == pytest.approx(max(0, values.mean(0).var() / N - ms_rest / (R * N)))
    assert variance.seeds == pytest.approx(values.mean(1).var(ddof=1) / R)


def test_pairing_cancels_what_rows_have_in_common() -> None:
    a = np.repeat(bernoulli(0, 1, 500), 3, axis=0)
    b = a.copy()
    b[:, :5] = 1 - b[:, :5]
    assert difference(gather(a), gather(b)).variance.rows < 0.1 * gather(a).variance.rows


def test_one_seed_compares_as_the_paired_t_test_of_the_rows() -> None:
    a, b = bernoulli(0, 1, 2000), bernoulli(1, 1, 2000, 0.77)
    found = compare(gather(a), gather(b), binary=True)
    expected = stats.ttest_rel(a[0], b[0])
    assert found.p == pytest.approx(expected.pvalue, rel=0.01)
    assert found.value == pytest.approx((a - b).mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()), abs=1e-4)


def test_swapping_the_systems_flips_the_difference() -> None:
    a, b = gather(bernoulli(0, 3, 300)), gather(bernoulli(1, 3, 300, 0.7))
    one, two = compare(a, b, binary=True), compare(b, a, binary=True)
    assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low))
    assert (one.p, one.p_mcnemar) == pytest.approx((two.p, two.p_mcnemar))


def test_a_system_equals_itself() -> None:
    a = gather(bernoulli(0, 3, 300))
    found = compare(a, a, binary=True)
    assert (found.value, found.low, found.high, found.p, found.p_mcnemar, found.p_permutation) == (0, 0, 0, 1, 1, 1)


def test_only_common_seeds_are_compared() -> None:
    values, others = bernoulli(0, 4, 300), bernoulli(1, 4, 300, 0.6)
    a = scores(list(values[:3]), None, [0, 1, 2], 300)
    b = scores(list(others[1:]), None, [1, 2, 3], 300)
    found = difference(a, b)
    expected = difference(gather(values[1:3]), gather(others[1:3]))
    assert found.seeds == (1, 2)
    assert np.allclose(found.means, expected.means)
    assert np.allclose(found.influences, expected.influences)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 5), (9, 2), (30, 14), (0, 6)])
def test_mcnemar_is_the_mid_p_binomial_test(wins: int, losses: int) -> None:
    signs = np.array([[1.0] * wins + [-1.0] * losses + [0.0] * 20])
    n, k = wins + losses, min(wins, losses)
    mid = 2 * stats.binom.cdf(k, n, 0.5) - stats.binom.pmf(k, n, 0.5)
    assert mcnemar(signs) == pytest.approx(min(1.0, mid) if wins != losses else 1.0)


def test_mcnemar_of_equal_seeds_is_the_chi_square_of_one() -> None:
    signs = np.array([[1.0] * 30 + [-1.0] * 14 + [0.0] * 20])
    assert mcnemar(np.repeat(signs, 3, axis=0)) == pytest.approx(stats.chi2.sf((30 - 14) ** 2 / 44, 1))


def test_permutation_agrees_with_scipy() -> None:
    differences = np.random.default_rng(0).normal(0.15, 1, size=120)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(1)
    ).pvalue
    assert permutation(differences) == pytest.approx(expected, abs=0.01)


def test_permutation_of_few_rows_is_near_the_exact_value() -> None:
    assert permutation(np.ones(5)) == pytest.approx(2 / 32, abs=0.008)


def test_holm_of_known_values() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize("seed", range(4))
def test_many_systems_at_once_have_the_scores_of_each_digit_by_digit(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is worked out for all of them together is what each works out for itself."""
    monkeypatch.setattr(statistics, "CHUNK_VALUES", 2000)
    random = np.random.default_rng(seed)
    n_rows, values, seeds = int(random.integers(1, 900)), [], []
    for system in range(12):
        runs = [(random.random(n_rows) < 0.7) + 0.1 * random.normal(size=n_rows) * (seed % 2) for _ in range(4)]
        alike = [runs[0]] * 4 if system == 3 else runs
        values.append(alike[: 1 + system % 4])
        seeds.append(random.permutation(20)[: 1 + system % 4].tolist())
    for together, own, of_runs in zip(statistics.scores_of_systems(values, seeds), values, seeds, strict=True):
        alone = scores(own, None, of_runs, n_rows)
        assert together.seeds == alone.seeds
        assert np.array_equal(together.means, alone.means)
        assert np.array_equal(together.influences, alone.influences)
        assert (together.value, together.constant, together.variance) == (alone.value, alone.constant, alone.variance)
