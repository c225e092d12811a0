from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score

from probe.core.errors import InputError
from probe.metrics.evaluate import evaluate


def some(n=400, k=10, seed=0, signal=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += signal
    return logits, labels


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_scikit_learn(seed):
    logits, labels = some(seed=seed)
    found = evaluate(logits, labels)
    assert found["top1"].value == pytest.approx((logits.argmax(1) == labels).mean())
    assert found["top5"].value == pytest.approx(top_k_accuracy_score(labels, logits, k=5))
    assert found["mean_per_class"].value == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))
    assert found["log_loss"].value == pytest.approx(log_loss(labels, softmax(logits), labels=range(10)))


def test_ece_is_that_of_the_definition():
    logits, labels = some(500)
    p = softmax(logits)
    confidence, right = p.max(1), p.argmax(1) == labels
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert evaluate(logits, labels)["ece"].value == pytest.approx(total)


def test_every_interval_holds_its_value_and_has_width():
    for signal in (0.0, 2.0, 6.0):
        for name, found in evaluate(*some(signal=signal)).items():
            assert found.low <= found.value <= found.high, name
            assert found.low < found.high or (name in ("auroc", "average_precision") and found.value == 1), name


def test_interval_shrinks_with_the_root_of_the_rows():
    few, many = evaluate(*some(500)), evaluate(*some(50_000))
    for name in ("top1", "top5", "mean_per_class", "log_loss"):
        assert (few[name].high - few[name].low) / (many[name].high - many[name].low) == pytest.approx(10, rel=0.25)


def test_top5_needs_five_classes():
    assert "top5" not in evaluate(*some(k=4))
    assert evaluate(*some(k=5))["top5"].value == 1


def test_same_seed_same_bits_other_seed_other_interval():
    logits, labels = some()
    assert evaluate(logits, labels, seed=1) == evaluate(logits, labels, seed=1)
    assert evaluate(logits, labels, seed=1)["ece"].low != evaluate(logits, labels, seed=2)["ece"].low


def test_adding_a_constant_to_a_row_moves_no_metric():
    logits, labels = some()
    moved = evaluate(logits + np.linspace(-900, 900, len(logits))[:, None], labels)
    for name, found in evaluate(logits, labels).items():
        assert moved[name].value == pytest.approx(found.value, abs=1e-9)


def test_class_that_no_training_row_had_is_wrong_and_costs_the_floor():
    logits, labels = some(1000)
    logits[:, 3] = -np.inf
    found = evaluate(logits, labels)
    absent = (labels == 3).mean()
    assert found["top5"].value <= 1 - absent
    kept = evaluate(logits[labels != 3], labels[labels != 3])["log_loss"].value
    floor = -np.log(np.finfo(np.float64).eps)
    assert found["log_loss"].value == pytest.approx((1 - absent) * kept + absent * floor)
    assert found["log_loss"].value == pytest.approx(log_loss(labels, softmax(logits), labels=range(10)))


def test_absent_class_is_no_hit_even_where_few_classes_are_left():
    logits = np.full((4, 8), -np.inf)
    logits[:, :3] = 0.0
    assert evaluate(logits, np.array([0, 1, 2, 3]))["top5"].value == 0.75


def test_equal_logits_predict_the_lowest_class_only():
    assert evaluate(np.zeros((3, 3)), np.array([0, 1, 2]))["top1"].value == pytest.approx(1 / 3)


def test_class_without_test_rows_is_left_out_of_the_mean():
    logits = np.eye(3)[[0, 1, 0]]
    assert evaluate(logits, np.array([0, 1, 1]))["mean_per_class"].value == 0.75


def test_all_right_keeps_an_honest_interval():
    found = evaluate(np.eye(4)[[0, 1, 2, 3] * 5] * 9, np.array([0, 1, 2, 3] * 5))
    assert found["mean_per_class"].high == 1
    assert found["mean_per_class"].low < found["top1"].low
    assert 0.8 < found["top1"].low < 0.9


@pytest.mark.parametrize(
    ("logits", "labels", "text"),
    [
        (np.zeros((3, 2)), np.array([0, 1, 2]), r"labels run from 0 to 2 \(int64\), expected whole numbers in 0..1"),
        (np.zeros((3, 2)), np.array([0, -1, 1]), "labels run from -1 to 1"),
        (np.zeros((2, 2)), np.array([0.0, 1.0]), "float64.*expected whole numbers"),
        (np.zeros((3, 1)), np.zeros(3, int), r"logits have shape \(3, 1\)"),
        (np.zeros((3, 2)), np.zeros(2, int), r"and labels \(2,\), expected \(rows, classes\)"),
        (np.zeros((0, 2)), np.zeros(0, int), "there are no rows to score"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([0, 1]), "row 1 has nan as its largest logit"),
        (np.full((2, 2), -np.inf), np.array([0, 1]), "row 0 has -inf as its largest logit"),
        (np.array([[0.0, np.inf]]), np.array([0]), "row 0 has inf as its largest logit"),
    ],
)
def test_bad_input_is_refused(logits, labels, text):
    with pytest.raises(InputError, match=text):
        evaluate(logits, labels)


def test_ten_thousand_rows_take_less_than_a_second_of_one_core():
    logits, labels = some(10_000)
    start = time.process_time()
    evaluate(logits, labels)
    assert time.process_time() - start < 1


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(0)
    return evaluate(rng.normal(size=(60, 6)), rng.integers(0, 6, 60))
