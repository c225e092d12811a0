from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from probe.core.errors import InputError
from probe.heads.naive_bayes import NaiveBayes
from probe.metrics import ranking
from probe.metrics.evaluate import evaluate
from probe.metrics.shared.orders import auroc_with_derivative, mean_precision_with_derivative, risk_coverage
from probe.metrics.shared.scores import score
from probe.metrics.shared.scores.one_class import log_odds


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
    assert evaluate(logits, labels)["auroc"].value == pytest.approx(
        roc_auc_score(labels, p, multi_class="ovr", average="macro")
    )
    assert evaluate(logits, labels)["average_precision"].value == pytest.approx(
        average_precision_score(np.eye(4)[labels], p)
    )


def test_class_without_rows_is_left_out_of_the_mean():
    logits = np.random.default_rng(0).normal(size=(50, 3))
    labels = np.arange(50) % 2
    p = softmax(logits, axis=1)
    expected = np.mean([roc_auc_score(labels == k, p[:, k]) for k in (0, 1)])
    assert evaluate(logits, labels)["auroc"].value == pytest.approx(expected)


def test_rows_of_one_class_are_refused():
    with pytest.raises(InputError, match="all 3 rows are of class 1, an order needs rows of two"):
        ranking.auroc(score(np.zeros((3, 2)), np.ones(3, dtype=np.int64)))


def test_risk_coverage_follows_the_definition():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 80)
    scores = score(np.round(rng.normal(size=(80, 3)) + np.eye(3)[labels]), labels)  # ties in confidence
    coverage, risk = risk_coverage(scores.confidence, scores.correct)
    assert len(coverage) == len(set(scores.confidence))
    for c, r, threshold in zip(coverage, risk, sorted(set(scores.confidence), reverse=True), strict=True):
        answered = scores.confidence >= threshold
        assert c == pytest.approx(answered.mean())
        assert r == pytest.approx(1 - scores.correct[answered].mean())
    rounded = scores.confidence.astype(np.float32)  # rounding parts what is equal
    expected = np.mean([1 - scores.correct[rounded >= own].mean() for own in rounded])
    assert ranking.aurc(scores)[0] == pytest.approx(expected)
    assert risk[-1] == pytest.approx(1 - scores.correct.mean())


def test_confidence_that_knows_its_errors_has_the_smaller_area():
    labels = np.zeros(100, dtype=np.int64)
    right = np.arange(100) < 70
    margin = np.where(right, 1.0, -1.0)
    knows = np.column_stack([margin * np.where(right, 3, 1), np.zeros(100)])
    not_knows = np.column_stack([margin * np.where(right, 1, 3), np.zeros(100)])
    assert evaluate(knows, labels)["aurc"].value < 0.1 < 0.5 < evaluate(not_knows, labels)["aurc"].value


def test_no_error_at_all_keeps_an_honest_interval():
    found = evaluate(np.eye(3)[[0, 1, 2] * 10], np.array([0, 1, 2] * 10))["aurc"]
    assert found.value == 0
    assert 0.05 < found.high < 0.2


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(60, 4)), rng.integers(0, 4, 60)
    found, sharp = evaluate(logits, labels), evaluate(1000 * logits, labels)
    names = ("auroc", "average_precision", "aurc")
    return {name: found[name] for name in names} | {f"sharp_{name}": sharp[name] for name in names}


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e4])
def test_the_scale_of_the_logits_moves_no_order_of_one_class_against_another(scale, n_classes):
    """Also where all probabilities are 0 or 1 in floating point."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, 500)
    logits = rng.normal(size=(500, n_classes)) + 0.5 * np.eye(n_classes)[labels]
    if n_classes > 2:  # the order over rows is then that of the largest logit's lead
        logits[:, 2:] = -np.inf
        labels = labels % 2
    for name in ("auroc", "average_precision", "aurc"):
        found, expected = (evaluate(factor * logits, labels)[name].value for factor in (scale, 1.0))
        assert found == pytest.approx(expected, abs=1e-9), name
    order = roc_auc_score(labels, logits[:, 1] - logits[:, 0])
    assert evaluate(scale * logits, labels)["auroc"].value == pytest.approx(order, abs=1e-9)


def test_copied_features_of_naive_bayes_move_no_order():
    rng = np.random.default_rng(0)
    y = np.arange(1000) % 2
    X = rng.normal(size=(1000, 4)) + 0.4 * y[:, None]
    found = []
    for copies in (1, 300):
        head = NaiveBayes().fit(np.repeat(X[:500], copies, 1), y[:500])
        found.append(evaluate(head.logits(np.repeat(X[500:], copies, 1)), y[500:]))
    for name in ("top1", "auroc", "average_precision", "aurc"):
        assert found[0][name].value == pytest.approx(found[1][name].value, abs=1e-4), name


@pytest.mark.parametrize("name", ["auroc", "average_precision", "aurc", "ece", "ece_equal_mass"])
def test_the_order_of_the_rows_moves_no_metric(name):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    logits = np.round(rng.normal(size=(300, 3)) + np.eye(3)[labels])  # equal scores in plenty
    expected = evaluate(logits, labels)[name].value
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(300)
        assert evaluate(logits[order], labels[order])[name].value == pytest.approx(expected, abs=1e-12)


def test_log_odds_are_the_logarithms_of_the_odds_and_do_not_end():
    logits = np.random.default_rng(0).normal(size=(50, 4)) * 3
    p = softmax(logits, axis=1)
    np.testing.assert_allclose(log_odds(logits), np.log(p) - np.log1p(-p), rtol=1e-5)
    assert log_odds(np.array([[0.0, 1000.0], [0.0, 2000.0]]))[:, 1].tolist() == [1000.0, 2000.0]
    assert log_odds(np.array([[0.0, -np.inf]])).tolist() == [[np.inf, -np.inf]]


def test_rows_of_infinite_odds_are_equal():
    scores, hit = np.array([np.inf, np.inf, 0.0, -np.inf, -np.inf]), np.array([1, 0, 1, 0, 0], bool)
    finite = np.array([9.0, 9.0, 0.0, -9.0, -9.0])
    for statistic in (auroc_with_derivative, lambda s, h: mean_precision_with_derivative(s, h, h)):
        assert statistic(scores, hit)[0] == statistic(finite, hit)[0]
