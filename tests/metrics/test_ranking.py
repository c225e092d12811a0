from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from probe.core.errors import InputError
from probe.metrics.ranking import (
    aurc,
    auroc,
    auroc_with_derivative,
    average_precision,
    mean_precision_with_derivative,
    risk_coverage,
)
from probe.metrics.scores import score_rows


def binary(seed, n=60, digits=1):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    return np.round(rng.normal(size=n) + positive, digits), positive  # rounding makes ties


@pytest.mark.parametrize("seed", range(4))
def test_binary_values_are_those_of_scikit_learn(seed):
    scores, positive = binary(seed)
    assert auroc_with_derivative(scores, positive)[0] == pytest.approx(roc_auc_score(positive, scores))
    found = mean_precision_with_derivative(scores, positive, positive)[0]
    assert found == pytest.approx(average_precision_score(positive, scores))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (auroc_with_derivative, roc_auc_score),
        (lambda s, y: mean_precision_with_derivative(s, y, y), average_precision_score),
    ],
)
def test_derivative_is_that_of_scikit_learns_weighted_value(ours, theirs):
    scores, positive = binary(0, 40)
    derivative = ours(scores, positive)[1]
    for row in range(40):
        up, down = np.ones(40), np.ones(40)
        up[row], down[row] = 1 + 1e-4, 1 - 1e-4
        slope = (theirs(positive, scores, sample_weight=up) - theirs(positive, scores, sample_weight=down)) / 2e-4
        assert derivative[row] == pytest.approx(slope, abs=1e-7)


def test_macro_values_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    logits = rng.normal(size=(300, 4)) + 1.5 * np.eye(4)[labels]
    p = softmax(logits, axis=1)
    assert auroc(logits, labels).value == pytest.approx(roc_auc_score(labels, p, multi_class="ovr", average="macro"))
    assert average_precision(logits, labels).value == pytest.approx(average_precision_score(np.eye(4)[labels], p))


def test_class_without_rows_is_left_out_of_the_mean():
    logits = np.random.default_rng(0).normal(size=(50, 3))
    labels = np.arange(50) % 2
    p = softmax(logits, axis=1)
    expected = np.mean([roc_auc_score(labels == k, p[:, k]) for k in (0, 1)])
    assert auroc(logits, labels).value == pytest.approx(expected)


def test_rows_of_one_class_are_refused():
    with pytest.raises(InputError, match="all 3 rows are of class 1, an order needs rows of two"):
        auroc(np.zeros((3, 2)), np.ones(3, dtype=np.int64))


def test_risk_coverage_follows_the_definition():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 80)
    scores = score_rows(np.round(rng.normal(size=(80, 3)) + np.eye(3)[labels]), labels)  # ties in confidence
    coverage, risk = risk_coverage(scores.confidence, scores.correct)
    assert len(coverage) == len(set(scores.confidence))
    for c, r, threshold in zip(coverage, risk, sorted(set(scores.confidence), reverse=True), strict=True):
        answered = scores.confidence >= threshold
        assert c == pytest.approx(answered.mean())
        assert r == pytest.approx(1 - scores.correct[answered].mean())
    expected = np.mean([1 - scores.correct[scores.confidence >= own].mean() for own in scores.confidence])
    assert aurc(scores).value == pytest.approx(expected)
    assert risk[-1] == pytest.approx(1 - scores.correct.mean())


def test_confidence_that_knows_its_errors_has_the_smaller_area():
    labels = np.zeros(100, dtype=np.int64)
    right = np.arange(100) < 70
    margin = np.where(right, 1.0, -1.0)
    knows = np.column_stack([margin * np.where(right, 3, 1), np.zeros(100)])
    not_knows = np.column_stack([margin * np.where(right, 1, 3), np.zeros(100)])
    assert aurc(score_rows(knows, labels)).value < 0.1 < 0.5 < aurc(score_rows(not_knows, labels)).value


def test_no_error_at_all_keeps_an_honest_interval():
    found = aurc(score_rows(np.eye(3)[[0, 1, 2] * 10], np.array([0, 1, 2] * 10)))
    assert found.value == 0
    assert 0.05 < found.high < 0.2


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(60, 4)), rng.integers(0, 4, 60)
    found = {"auroc": auroc(logits, labels), "average_precision": average_precision(logits, labels)}
    return found | {"aurc": aurc(score_rows(logits, labels))}
