import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from probe.core.errors import InputError
from probe.metrics.evaluate import evaluate, measure
from probe.metrics.shared.scores import score


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
