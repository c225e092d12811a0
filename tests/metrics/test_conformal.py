from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from probe.core.errors import InputError
from probe.metrics.conformal import SetScores, prediction_sets, threshold, thresholds
from probe.metrics.evaluate import measure


def drawn(n, seed, k=4, sharpness=1.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 1.5
    return logits * sharpness, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("class_conditional", [False, True])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_coverage_is_within_one_percent_of_the_level_over_200_draws(level, class_conditional):
    coverage = []
    for seed in range(200):
        logits, labels = drawn(1400, seed, sharpness=3.0)  # overconfident: coverage does not hang on calibration
        found = thresholds(logits[:400], labels[:400], level, class_conditional=class_conditional)
        sets = prediction_sets(logits[400:], found)
        coverage.append(sets[np.arange(1000), labels[400:]].mean())
    assert abs(np.mean(coverage) - level) < 0.01


def test_class_conditional_thresholds_cover_every_class_where_one_threshold_does_not():
    def biased(seed, n):
        logits, labels = drawn(n, seed)
        logits[:, 0] -= 2  # the head does not believe in class 0
        return logits, labels

    by_class = {True: [], False: []}
    for seed in range(60):
        logits, labels = biased(seed, 2400)
        for conditional, seen in by_class.items():
            found = thresholds(logits[:800], labels[:800], 0.9, class_conditional=conditional)
            sets = prediction_sets(logits[800:], found)
            seen.append(sets[np.arange(1600), labels[800:]][labels[800:] == 0].mean())
    assert np.mean(by_class[True]) == pytest.approx(0.9, abs=0.015)
    assert np.mean(by_class[False]) < 0.85


def test_calibrating_on_fitted_rows_covers_too_little():
    """Negative control: logits that have seen the labels of the held-out rows, but not those of the test rows."""
    coverage = []
    for seed in range(50):
        logits, labels = drawn(1400, seed)
        logits[np.arange(400), labels[:400]] += 3
        found = thresholds(logits[:400], labels[:400])
        coverage.append(prediction_sets(logits[400:], found)[np.arange(1000), labels[400:]].mean())
    assert np.mean(coverage) < 0.8


def test_higher_level_larger_sets():
    logits, labels = drawn(500, 0)
    sets = [prediction_sets(logits, thresholds(logits, labels, level)) for level in (0.5, 0.8, 0.9, 0.99)]
    for small, large in pairwise(sets):
        assert (small <= large).all()


@pytest.mark.parametrize(("n", "level", "rank"), [(9, 0.9, 9), (10, 0.9, 10), (99, 0.9, 90), (19, 0.95, 19)])
def test_threshold_is_the_ranked_score(n, level, rank):
    scores = np.random.default_rng(0).permutation(n) / n
    assert threshold(scores, level) == np.sort(scores)[rank - 1]


def test_too_few_rows_take_every_class():
    assert threshold(np.zeros(8), 0.9) == np.inf
    logits, labels = drawn(8, 0)
    assert prediction_sets(logits, thresholds(logits, labels)).all()


def test_class_without_held_out_rows_is_in_every_set():
    logits, labels = drawn(200, 0)
    kept = labels != 1
    found = thresholds(logits[kept], labels[kept], class_conditional=True)
    assert prediction_sets(logits, found)[:, 1].all()


def test_numbers_of_given_sets():
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]], dtype=bool)
    found = measure({"sets": SetScores(sets, np.array([0, 2, 1, 1]))})
    assert {name: i.value for name, i in found.metrics.items()} == {
        "coverage": 0.5,
        "worst_class_coverage": 0.0,
        "mean_set_size": 1.5,
        "empty_sets": 0.25,
    }
    assert found.rows["mean_set_size"].tolist() == [1, 2, 0, 3]
    for name, values in found.rows.items():
        assert values.mean() == found.metrics[name].value
    assert all(i.low <= i.value <= i.high for i in found.metrics.values())


@pytest.mark.parametrize("level", [0, 1, 90])
def test_level_outside_is_refused(level):
    with pytest.raises(InputError, match=f"level is {level}, expected between 0 and 1"):
        threshold(np.zeros(3), level)


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(0)
    logits, labels = 2 * rng.normal(size=(80, 4)), rng.integers(0, 4, 80)
    sets = prediction_sets(logits[40:], thresholds(logits[:40], labels[:40]))
    return measure({"sets": SetScores(sets, labels[40:])}).metrics
