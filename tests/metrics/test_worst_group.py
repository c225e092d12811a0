"""Accuracies of groups, by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from probe.metrics.evaluate import measure
from probe.metrics.shared.scores import OfGroups, score


def of_groups(correct, groups, n_train):
    correct, groups = np.asarray(correct), np.asarray(groups)
    logits = np.zeros((len(correct), 2))
    logits[np.arange(len(correct)), np.where(correct, 0, 1)] = 1
    return OfGroups(score(logits, np.zeros(len(correct), dtype=np.int64)), groups, np.asarray(n_train))


def frozen_case():
    rng = np.random.default_rng(0)
    scores = of_groups(rng.random(200) < 0.8, rng.integers(0, 3, 200), [5, 10, 20])
    return {name: vars(value) for name, value in measure({"groups": scores}).metrics.items()}


def test_three_means_of_a_hand_made_case():
    scores = of_groups([1, 1, 0, 1, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1, 2, 2], [90, 10, 100])
    found = measure({"groups": scores}).metrics
    assert found["worst_group"].value == 0
    assert found["mean_per_group"].value == pytest.approx((0.75 + 0 + 0.5) / 3)
    assert found["mean_by_training_groups"].value == pytest.approx((90 * 0.75 + 10 * 0 + 100 * 0.5) / 200)
    for interval in found.values():
        assert interval.low <= interval.value <= interval.high


def test_a_group_without_test_rows_takes_no_part():
    found = measure({"groups": of_groups([1, 0, 1, 1], [0, 0, 2, 2], [50, 50, 50])}).metrics
    assert found["mean_per_group"].value == found["mean_by_training_groups"].value == 0.75


def test_values_of_the_rows_mean_the_measure():
    rng = np.random.default_rng(0)
    scores = of_groups(rng.random(300) < 0.8, rng.integers(0, 4, 300), [5, 10, 20, 40])
    measured = measure({"groups": scores})
    assert set(measured.rows) == {"mean_per_group", "mean_by_training_groups"}
    for name, rows in measured.rows.items():
        assert rows.mean() == pytest.approx(measured.metrics[name].value)


def test_intervals_hold_the_truth():
    rng, truth, n_train = np.random.default_rng(0), np.array([0.95, 0.9, 0.8, 0.6]), np.array([70, 10, 10, 10])
    names = {"worst_group": 0.6, "mean_per_group": truth.mean(), "mean_by_training_groups": truth @ n_train / 100}
    hits = dict.fromkeys(names, 0)
    for _ in range(60):
        groups = np.repeat(np.arange(4), [120, 60, 60, 40])
        found = measure({"groups": of_groups(rng.random(280) < truth[groups], groups, n_train)}).metrics
        for name, value in names.items():
            hits[name] += found[name].low <= value <= found[name].high
    assert all(hit >= 53 for hit in hits.values()), hits
