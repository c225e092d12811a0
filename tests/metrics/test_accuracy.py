from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import recall_score

from probe.metrics.accuracy import mean_per_class, worst_class
from probe.metrics.evaluate import measure
from probe.metrics.shared.scores import Frequencies, score


def by_frequency(scores, train_counts):
    return measure({"frequency": Frequencies(scores, train_counts)})


def scored(labels, predicted, n_classes):
    return score(np.eye(n_classes)[predicted], np.asarray(labels))


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 400)
    return scored(labels, np.where(rng.random(400) < 0.3 + 0.1 * labels, labels, (labels + 1) % 5), 5)


def test_worst_class_is_the_lowest_recall(scores):
    recalls = recall_score(scores.labels, scores.predicted, average=None)
    assert worst_class(scores).value == pytest.approx(recalls.min())


def test_worst_class_interval_covers_though_it_is_the_lowest_of_many():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        labels = np.repeat(np.arange(10), 40)
        right = rng.random(400) < 0.7
        found = worst_class(scored(labels, np.where(right, labels, (labels + 1) % 10), 10))
        covered.append(found.low <= 0.7 <= found.high)
    assert np.mean(covered) >= 0.93


def test_groups_are_means_over_their_classes(scores):
    recalls = recall_score(scores.labels, scores.predicted, average=None)
    measured = by_frequency(scores, np.array([101, 100, 20, 19, 1]))
    found = {name: interval.value for name, interval in measured.metrics.items()}
    assert found == pytest.approx(
        {"many_shot": recalls[0], "medium_shot": recalls[1:3].mean(), "few_shot": recalls[3:].mean()}
    )
    for name, values in measured.rows.items():
        assert np.nanmean(values) == pytest.approx(found[name])
    assert (~np.isnan(list(measured.rows.values()))).sum(axis=0).tolist() == [1] * len(scores.labels)


def test_group_without_tested_classes_is_left_out(scores):
    found = by_frequency(scores, np.array([500, 500, 500, 500, 50]))
    assert set(found.metrics) == set(found.rows) == {"many_shot", "medium_shot"}


def test_classes_of_one_size_are_no_groups(scores):
    assert by_frequency(scores, np.array([500, 400, 300, 200, 101])).metrics == {}


def test_all_classes_as_a_mask_change_nothing(scores):
    assert mean_per_class(scores, np.ones(5, dtype=bool)) == mean_per_class(scores)


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(0)
    scores = score(rng.normal(size=(60, 4)), rng.integers(0, 4, 60))
    groups = by_frequency(scores, np.array([5, 50, 500, 50]))
    return {"mean_per_class": mean_per_class(scores, 0), "worst_class": worst_class(scores), **groups.metrics}
