import numpy as np
import pytest

from probe.metrics.evaluate import measure
from probe.metrics.prediction_intervals import IntervalScores, margins

RNG = np.random.default_rng(0)


def measured(low, high, labels, groups=None, level=0.9):
    columns = (np.asarray(values, dtype=float).reshape(len(labels), -1) for values in (low, high, labels))
    return measure({"intervals": IntervalScores(*columns, level, groups)}).metrics


@pytest.mark.parametrize("n", [19, 110])
def test_coverage_is_that_of_the_theory_over_many_draws(n):
    level, coverage = 0.9, []
    for seed in range(400):
        errors = np.random.default_rng(seed).standard_t(3, (n + 500, 1))
        zero = np.zeros((n, 1))
        half = margins(zero, zero, zero + 1, errors[:n], level)
        coverage.append((np.abs(errors[n:]) <= half).mean())
    assert level - 0.006 < np.mean(coverage) < level + 1 / (n + 1) + 0.006


def test_too_few_held_out_rows_leave_the_interval_open():
    assert margins(*RNG.normal(size=(4, 8, 2)), 0.9).tolist() == [np.inf, np.inf]
    found = measured([-np.inf] * 3, [np.inf] * 3, [0.0, 1.0, 2.0])
    assert list(found) == ["interval_coverage"]
    assert found["interval_coverage"].value == 1


def test_coverage_width_and_score_follow_their_definitions():
    low, high, labels = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 2.0]), np.array([0.5, 3.0, 0.0])
    found = measured(low, high, labels, level=0.8)
    assert found["interval_coverage"].value == pytest.approx(1 / 3)
    assert found["interval_width"].value == pytest.approx(4 / 3)
    assert found["interval_score"].value == pytest.approx(4 / 3 + 10 * (1 + 1) / 3)


def test_the_score_is_least_for_the_quantiles_of_the_truth():
    labels = RNG.normal(size=4000)
    scores = {end: measured([-end] * 4000, [end] * 4000, labels)["interval_score"].value for end in (1.2, 1.645, 2.1)}
    assert min(scores, key=scores.get) == 1.645


def test_rows_of_a_group_count_as_one():
    labels = RNG.normal(size=200)
    alone = measured([-1.0] * 200, [1.0] * 200, labels)["interval_coverage"]
    grouped = measured([-1.0] * 200, [1.0] * 200, np.repeat(labels[:40], 5), np.repeat(np.arange(40), 5))
    found = grouped["interval_coverage"]
    assert found.high - found.low > 1.8 * (alone.high - alone.low)


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    labels = np.random.default_rng(1).normal(size=(30, 2))
    return measured(np.full((30, 2), -1.0), np.linspace(0.5, 2, 60), labels)
