import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file
from sklearn.metrics import cohen_kappa_score

from probe.metrics.evaluate import measure
from probe.metrics.ordinal import quadratic_kappa
from probe.metrics.shared.graded import GradedScores
from probe.metrics.shared.scores import graded, score

CUTS = (-1.5, -0.5, 0.5, 1.5)


def some(n=200, seed=0, noise=0.7, groups=None):
    """Five grades and predictions of them; rows of a group share their error."""
    rng = np.random.default_rng(seed)
    hidden, error = rng.normal(size=(2, n))
    if groups is not None:
        hidden, error = (values[: groups.max() + 1][groups] for values in (hidden, error))
    return np.digitize(hidden + noise * error, CUTS), np.digitize(hidden, CUTS)


def measured(true, predicted, groups=None, n_grades=5):
    columns = (np.asarray(values).reshape(len(true), -1) for values in (true, predicted))
    return measure({"graded": GradedScores(*columns, n_grades, "one_class", groups)}).metrics


def test_values_follow_their_definitions():
    true, predicted = some()
    found = measured(true, predicted)
    assert list(found) == ["quadratic_kappa", "rank_error", "within_one"]
    assert found["quadratic_kappa"].value == pytest.approx(cohen_kappa_score(true, predicted, weights="quadratic"))
    assert found["rank_error"].value == pytest.approx(np.abs(true - predicted).mean())
    assert found["within_one"].value == pytest.approx((np.abs(true - predicted) <= 1).mean())


@pytest.mark.parametrize("path", files_of("regression_metrics"), ids=lambda path: path.stem if path else "")
def test_values_are_those_of_the_reference(path):
    given = load_file(path)
    found = measured(given["input.ordinal.labels"], given["input.ordinal.predictions"])
    names = {"quadratic_kappa": "quadratic_weighted_kappa", "rank_error": "mae_in_ranks", "within_one": "within_one"}
    for name, told in names.items():
        assert found[name].value == pytest.approx(float(given[f"output.ordinal.{told}"]), rel=1e-10)


def test_the_derivative_of_kappa_is_that_of_rows_that_weigh_more():
    true, predicted = some(30)
    _, derivative = quadratic_kappa(GradedScores(true[:, None], predicted[:, None], 5, "one_class"))
    assert derivative.sum() == pytest.approx(0, abs=1e-12)
    times = np.full(30, 400)
    for row in range(4):
        more = times + 4 * (np.arange(30) == row)
        one, two = (
            cohen_kappa_score(np.repeat(true, w), np.repeat(predicted, w), weights="quadratic") for w in (times, more)
        )
        assert (two - one) / (4 / 400) == pytest.approx(derivative[row], abs=2e-4)


def test_classes_are_grades_by_their_code_and_numbers_by_the_nearest_of_them():
    labels = np.array([0, 1, 2, 2])
    of_classes = graded(score(np.eye(3)[[0, 2, 2, 0]], labels), labels)
    assert of_classes.apart[:, 0].tolist() == [0, 1, 0, 2]
    # Grades 1, 2, 5 and 10, the last of which no training row has.
    of_numbers = graded(
        score(np.array([-3.0, 3.5, 3.6, 99.0]), np.array([1.0, 2, 5, 10]), "number"), np.array([1.0, 2, 5])
    )
    assert of_numbers.predicted[:, 0].tolist() == [0, 1, 2, 3]
    assert of_numbers.n_grades == 4
    assert np.array_equal(of_numbers.predicted, of_numbers.labels)


def test_turning_the_order_round_changes_nothing_and_shuffling_it_does():
    true, predicted = some()
    found, turned = measured(true, predicted), measured(4 - true, 4 - predicted)
    assert all(found[name].value == pytest.approx(turned[name].value) for name in found)
    order = np.array([2, 0, 4, 1, 3])
    assert measured(order[true], order[predicted])["quadratic_kappa"].value < found["quadratic_kappa"].value - 0.05


def test_a_constant_has_no_kappa_above_none_and_a_perfect_prediction_has_one():
    true, _ = some()
    assert measured(true, np.full_like(true, 2))["quadratic_kappa"].value == pytest.approx(0)
    assert measured(true, true)["quadratic_kappa"].value == 1
    assert measured(true, true)["rank_error"].high > 0
    assert "quadratic_kappa" not in measured(np.zeros(9, int), np.zeros(9, int))


def coverage(n, draws, groups=None):
    """Draws of 1,000 in which the interval holds the truth, by metric."""
    true, predicted = some(400_000, seed=10**6)
    truth = {name: found.value for name, found in measured(true, predicted).items()}
    hits = dict.fromkeys(truth, 0)
    for seed in range(draws):
        for name, found in measured(*some(n, seed=seed, groups=groups), groups).items():
            hits[name] += found.low <= truth[name] <= found.high
    return {name: 1000 * hit / draws for name, hit in hits.items()}


def test_intervals_cover_the_truth():
    assert {name: hits for name, hits in coverage(100, 300).items() if not 915 <= hits <= 985} == {}


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 200, 1000])
def test_intervals_cover_the_truth_93_to_97_times_in_100(n):
    found = coverage(n, 1000)
    assert {name: hits for name, hits in found.items() if not 925 <= hits <= 975} == {}


@pytest.mark.slow
def test_intervals_of_grouped_rows_cover_the_truth():
    found = coverage(300, 1000, groups=np.repeat(np.arange(100), 3))
    assert {name: hits for name, hits in found.items() if not 925 <= hits <= 980} == {}


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    return measured(*some(40))
