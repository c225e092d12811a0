from __future__ import annotations

import numpy as np
import pytest

from probe.metrics.evaluate import measure
from probe.metrics.incremental import TaskScores, accuracy_matrix

# Classes 0 and 1 come first, then 2, then 3; one test row of class 0 and 1, two of 2 and 3.


def incremental_metrics(predicted, labels, tasks):
    return measure({"tasks": TaskScores(predicted, labels, tasks)})


LABELS = np.array([0, 1, 2, 2, 3, 3])
TASK_OF_CLASS = np.array([0, 0, 1, 2])
PREDICTED = np.array(
    [
        [0, 1, 0, 0, 1, 1],
        [0, 2, 2, 2, 2, 2],
        [3, 2, 2, 3, 3, 3],
    ]
)


def test_matrix_and_numbers_of_a_hand_made_case():
    nan = np.nan
    expected = [[1.0, nan, nan], [0.5, 1.0, nan], [0.0, 0.5, 1.0]]
    assert np.array_equal(accuracy_matrix(PREDICTED, LABELS, TASK_OF_CLASS[LABELS]), expected, equal_nan=True)
    found = incremental_metrics(PREDICTED, LABELS, TASK_OF_CLASS[LABELS]).metrics
    assert found["a_last"].value == pytest.approx(3 / 6)
    assert found["a_avg"].value == pytest.approx((2 / 2 + 3 / 4 + 3 / 6) / 3)
    assert found["forgetting"].value == pytest.approx(((1.0 - 0.0) + (1.0 - 0.5)) / 2)
    assert found["backward_transfer"].value == pytest.approx(((0.0 - 1.0) + (0.5 - 1.0)) / 2)
    assert all(i.low <= i.value <= i.high for i in found.values())


def test_best_earlier_accuracy_counts_not_the_first():
    predicted = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 1]])
    found = incremental_metrics(predicted, np.array([0, 1, 2]), np.array([0, 1, 2])).metrics
    assert found["forgetting"].value == pytest.approx(((1 - 0) + (0 - 1)) / 2)


def test_nothing_forgotten_is_zero_and_later_help_is_negative():
    assert incremental_metrics(np.array([[0, 0], [0, 1]]), np.arange(2), np.arange(2)).metrics["forgetting"].value == 0
    assert incremental_metrics(np.array([[1, 1], [0, 1]]), np.arange(2), np.arange(2)).metrics["forgetting"].value == -1


def test_task_without_test_rows_is_left_out():
    labels = np.array([2, 2, 2, 2, 3, 3])
    found = incremental_metrics(PREDICTED, labels, TASK_OF_CLASS[labels]).metrics
    assert np.isnan(accuracy_matrix(PREDICTED, labels, TASK_OF_CLASS[labels])[:, 0]).all()
    assert found["forgetting"].value == pytest.approx(3 / 4 - 2 / 4)


def test_intervals_cover_the_truth():
    """Task 0 is right with 0.9 then 0.6, task 1 with 0.7; rows are independent."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    hits = {"a_last": [], "a_avg": [], "forgetting": []}
    truth = {"a_last": 0.65, "a_avg": (0.9 + 0.65) / 2, "forgetting": 0.3}
    for _ in range(300):
        chance = rng.random((2, 400))
        right = chance < np.array([np.where(labels == 0, 0.9, 0), np.where(labels == 0, 0.6, 0.7)])
        found = incremental_metrics(np.where(right, labels, 1 - labels), labels, labels).metrics
        for name, seen in hits.items():
            seen.append(found[name].low <= truth[name] <= found[name].high)
    for name, seen in hits.items():
        assert 0.915 <= np.mean(seen) <= 0.985, name


def test_rows_of_no_task_count_after_every_task():
    tasks = np.where(np.arange(6) < 2, -1, TASK_OF_CLASS[LABELS])
    found = incremental_metrics(PREDICTED, LABELS, tasks).metrics
    assert found["a_avg"].value == pytest.approx((2 / 2 + 3 / 4 + 3 / 6) / 3)
    assert np.isnan(accuracy_matrix(PREDICTED, LABELS, tasks)[:, 0]).all()
    assert found["forgetting"].value == pytest.approx(1.0 - 0.5)


def test_values_of_the_rows_have_the_metric_as_their_mean_and_its_interval_in_their_spread():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 100)
    found = incremental_metrics(rng.integers(0, 3, (3, 300)), labels, labels)
    for name, values in found.rows.items():
        interval = found.metrics[name]
        assert values.mean() == pytest.approx(interval.value, abs=1e-12)
        half = 1.96 * values.std() / np.sqrt(300)
        assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.02)  # Wilson's is a little narrower


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(0)
    tasks = np.arange(60) // 20
    return incremental_metrics(rng.integers(0, 6, (3, 60)), 2 * tasks + rng.integers(0, 2, 60), tasks).metrics
