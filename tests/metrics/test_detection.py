"""Recall where hardly any row of another class is taken for one."""

import numpy as np
import pytest
from scipy.stats import norm

from probe.metrics.detection import recall_at, recall_interval, recall_with_derivative
from probe.metrics.evaluate import evaluate


def drawn(seed, n=1000, share=0.3, shift=2.0):
    random = np.random.default_rng(seed)
    positive = random.random(n) < share
    return random.normal(size=n) + shift * positive, positive


def test_it_is_the_recall_at_the_lowest_threshold_that_a_hundredth_of_the_others_exceed():
    values, positive = drawn(0)
    others = np.sort(values[~positive])
    threshold = next(t for t in others if (others > t).mean() <= 0.01)
    expected = (values[positive] > threshold).mean()
    assert recall_with_derivative(values, positive)[0] == pytest.approx(expected)
    assert 0.1 < expected < 0.9


def test_of_few_others_none_may_score_above():
    values, positive = np.array([0.5, 2.0, 3.0, 1.0, 0.0]), np.array([True, True, True, False, False])
    assert recall_with_derivative(values, positive)[0] == pytest.approx(2 / 3)


def test_equal_scores_are_not_found():
    values, positive = np.ones(300), np.arange(300) % 2 == 0
    assert recall_with_derivative(values, positive)[0] == 0.0
    interval = recall_interval(values, positive)
    assert interval.low == 0
    assert interval.high < 0.1


def test_the_order_alone_counts():
    values, positive = drawn(1)
    before, after = (recall_with_derivative(v, positive)[0] for v in (values, np.exp(values)))
    assert before == after
    assert recall_interval(values, positive) == recall_interval(np.exp(values), positive)


def test_the_derivative_sums_to_nothing_and_sees_both_kinds_of_rows():
    values, positive = drawn(2)
    _, derivative = recall_with_derivative(values, positive)
    assert abs(derivative.sum()) < 1e-12
    assert derivative[~positive].min() < 0
    # About the variance that new draws have.
    recalls = [recall_with_derivative(*drawn(seed))[0] for seed in range(200)]
    assert np.sqrt((derivative**2).sum()) == pytest.approx(np.std(recalls), rel=0.4)


@pytest.mark.parametrize(("n", "shift"), [(300, 2.0), (1000, 2.0), (3000, 3.0)])
def test_the_interval_holds_what_new_rows_would_show(n, shift):
    truth = 1 - norm.cdf(norm.ppf(0.99) - shift)
    found = [recall_interval(*drawn(seed, n, shift=shift)) for seed in range(300)]
    covered = np.mean([interval.low <= truth <= interval.high for interval in found])
    assert covered >= 0.92
    assert all(interval.low <= interval.value <= interval.high for interval in found)


def test_of_two_classes_the_second_is_looked_for():
    values, positive = drawn(3)
    logits = np.stack([np.zeros_like(values), values], axis=1)
    found = evaluate(logits, positive.astype(int))["recall_at_1_fpr"]
    assert found == recall_interval(values.astype(np.float32), positive)
    flipped = evaluate(logits[:, ::-1], 1 - positive.astype(int))["recall_at_1_fpr"]
    assert flipped.value != found.value


def test_of_more_classes_it_is_the_mean():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 600)
    logits = random.normal(size=(600, 4)) + 2 * np.eye(4)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    each = [recall_at(p[:, k], labels == k, int(0.01 * (labels != k).sum())) for k in range(4)]
    found = evaluate(logits, labels)["recall_at_1_fpr"]
    assert found.value == pytest.approx(np.mean(each))
    assert found.low < found.value < found.high


def frozen_case():
    values, positive = drawn(4)
    logits = np.stack([np.zeros_like(values), values], axis=1)
    return {
        "two": evaluate(logits, positive.astype(int))["recall_at_1_fpr"],
        "rows": recall_with_derivative(values, positive)[1][:5],
    }
