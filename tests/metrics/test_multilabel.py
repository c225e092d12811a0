import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from probe.core.errors import InputError
from probe.metrics.evaluate import evaluate, measure
from probe.metrics.shared.scores import beside, score
from probe.metrics.shared.scores.labels import best_threshold


def evaluate_targets(logits, targets):
    return evaluate(logits, targets, target="labels")


def draw(n=200, seed=0, n_labels=5):
    random = np.random.default_rng(seed)
    targets = (random.random((n, n_labels)) < np.linspace(0.1, 0.6, n_labels)).astype(np.int64)
    logits = 1.5 * targets - 1 + random.normal(size=targets.shape)
    return np.round(logits, 1).astype(np.float32), targets  # rounded: equal scores are part of the test


def test_values_are_those_of_scikit_learn():
    logits, targets = draw()
    found = evaluate_targets(logits, targets)
    predicted = logits > 0
    assert found["mAP"].value == pytest.approx(average_precision_score(targets, logits), abs=1e-12)
    assert found["micro_f1"].value == pytest.approx(f1_score(targets, predicted, average="micro"), abs=1e-12)
    assert found["macro_f1"].value == pytest.approx(f1_score(targets, predicted, average="macro"), abs=1e-12)
    assert list(found) == ["mAP", "micro_f1", "macro_f1"]


def test_labels_without_a_test_row_are_left_out_of_the_means():
    logits, targets = draw()
    targets[:, 2] = 0
    kept = [0, 1, 3, 4]
    found = evaluate_targets(logits, targets)
    assert found["mAP"].value == pytest.approx(average_precision_score(targets[:, kept], logits[:, kept]), abs=1e-12)
    assert found["macro_f1"].value == pytest.approx(
        f1_score(targets[:, kept], logits[:, kept] > 0, average="macro"), abs=1e-12
    )


def test_values_of_rows_have_the_metric_as_their_mean():
    logits, targets = draw()
    found = evaluate_targets(logits, targets)
    for name, values in measure({"rows": score(logits, targets, "labels")}).rows.items():
        assert values.shape == (200,)
        assert values.mean() == pytest.approx(found[name].value, abs=1e-12)


def test_derivatives_are_those_by_row_weight():
    # A row counted twice: difference quotient 1 at weight 1 has an error of second order, so a small step is taken by
    # repeating every row 1000 times and one of them once more.
    logits, targets = draw(n=40)
    base = {name: interval.value for name, interval in evaluate_targets(logits, targets).items()}
    slopes = {
        name: (values - base[name]) / 40
        for name, values in measure({"rows": score(logits, targets, "labels")}).rows.items()
    }
    for row in (0, 7):
        order = np.concatenate([np.repeat(np.arange(40), 1000), [row]])
        moved = evaluate_targets(logits[order], targets[order])
        for name, value in base.items():
            assert (moved[name].value - value) * 1000 == pytest.approx(slopes[name][row], rel=0.02, abs=1e-5)


@pytest.mark.parametrize("name", ["mAP", "micro_f1", "macro_f1"])
def test_intervals_cover_the_value_of_the_population(name):
    logits, targets = draw(n=40_000, seed=1)
    truth = evaluate_targets(logits, targets)[name].value
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        rows = random.integers(0, len(logits), 300)
        interval = evaluate_targets(logits[rows], targets[rows])[name]
        hits += interval.low <= truth <= interval.high
    assert 180 <= hits <= 198  # 95 % of 200 draws, plus and minus 3 standard errors and the bias of a small sample


def test_a_perfect_order_scores_one():
    _, targets = draw()
    found = evaluate_targets(np.where(targets == 1, 1.0, -1.0), targets)
    assert [interval.value for interval in found.values()] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("logits", "targets", "text"),
    [
        (np.zeros((3, 2)), np.zeros((3, 2), int), "none of the 3 test rows has any label"),
        (np.zeros((3, 2)), np.ones((3, 4), int), r"log-odds have shape \(3, 2\) and targets \(3, 4\)"),
        (np.full((3, 2), np.nan), np.ones((3, 2), int), "expected the same and finite numbers: the head diverged"),
    ],
)
def test_what_cannot_be_scored_is_refused(logits, targets, text):
    with pytest.raises(InputError, match=text):
        evaluate_targets(logits, targets)


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    rng = np.random.default_rng(0)
    return evaluate_targets(rng.normal(size=(60, 4)), rng.integers(0, 2, (60, 4)))


def test_unknown_labels_take_no_part_whatever_is_said_of_them():
    logits, targets = draw()
    hidden = np.random.default_rng(1).random(targets.shape) < 0.3
    known = np.where(hidden, -1, targets)
    found = evaluate_targets(logits, known)
    for name, value in evaluate_targets(np.where(hidden, -7 * logits, logits), known).items():
        assert value == found[name]
    of_labels = [average_precision_score(targets[~h, k], logits[~h, k]) for k, h in enumerate(hidden.T)]
    assert found["mAP"].value == pytest.approx(np.mean(of_labels), abs=1e-12)
    f1 = [f1_score(targets[~h, k], logits[~h, k] > 0) for k, h in enumerate(hidden.T)]
    assert found["macro_f1"].value == pytest.approx(np.mean(f1), abs=1e-12)
    for name, values in measure({"rows": score(logits, known, "labels")}).rows.items():
        assert values.mean() == pytest.approx(found[name].value, abs=1e-12)


def test_intervals_with_unknown_labels_hold_the_value_of_many_rows():
    expected = evaluate_targets(*draw(40_000, seed=99))["mAP"].value
    inside = []
    for seed in range(120):
        logits, targets = draw(300, seed)
        known = np.where(np.random.default_rng(1000 + seed).random(targets.shape) < 0.3, -1, targets)
        interval = evaluate_targets(logits, known)["mAP"]
        inside.append(interval.low <= expected <= interval.high)
    assert 0.9 <= np.mean(inside) <= 0.995


def test_map_by_frequency_means_over_labels_with_many_some_and_few_training_rows():
    logits, targets = draw()
    learnt = np.zeros((300, 5), dtype=np.int64)
    for k, n in enumerate([5, 19, 20, 100, 101]):
        learnt[:n, k] = 1
    learnt[200:, 0] = -1
    scored = score(logits, targets, "labels")
    found = measure(beside(scored, learnt)).metrics
    of_labels = [average_precision_score(targets[:, k], logits[:, k]) for k in range(5)]
    assert found["mAP_few"].value == pytest.approx(np.mean(of_labels[:2]))
    assert found["mAP_medium"].value == pytest.approx(np.mean(of_labels[2:4]))
    assert found["mAP_many"].value == pytest.approx(of_labels[4])
    assert not measure(beside(scored, learnt[:, [4] * 5])).metrics


def test_the_threshold_is_the_one_of_largest_f1():
    rng = np.random.default_rng(0)
    for _ in range(4):
        labels = (rng.random(40) < 0.2).astype(np.int64)
        labels[0] = 1
        odds = np.round(rng.normal(size=40) + labels, 1)
        limit = best_threshold(odds, labels)
        best = max(f1_score(labels, odds >= other) for other in odds)
        assert f1_score(labels, odds >= limit) == pytest.approx(best)
        unknown = np.append(labels, [-1, -1])
        assert best_threshold(np.append(odds, [9.0, -9.0]), unknown) == limit
    assert best_threshold(np.array([1.0, 2.0]), np.array([0, -1])) == 0
    assert best_threshold(np.array([-2.0, 3.0]), np.array([0, 1])) == 0
