from __future__ import annotations

import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file
from scipy import stats
from sklearn import metrics as peers

from probe.core.errors import InputError
from probe.metrics import regression
from probe.metrics.evaluate import evaluate, measure
from probe.metrics.prediction_intervals import IntervalScores
from probe.metrics.quantiles import QuantileScores
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import restored
from probe.metrics.shared.scores.number import beside, read

NAMES = ("r2", "mae", "rmse", "median_error", "pearson", "spearman", "kendall")


def some(n=200, columns=1, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    predicted = rng.normal(size=(n, columns))
    true = 0.9 * predicted + 0.1 + 0.8 * rng.normal(size=(n, columns))
    return (true.round(1), predicted.round(1)) if ties else (true, predicted)


def measured(true, predicted, groups=None, training=0.3):
    scores = read(predicted, true).in_groups(groups)
    parts = {"rows": scores, **beside(scores, np.full((5, true.shape[1]), training))}
    return measure(parts, regression.METRICS).metrics


@pytest.mark.parametrize("ties", [False, True])
def test_values_are_those_of_scikit_learn_and_scipy(ties):
    true, predicted = some(columns=3, ties=ties)
    found = evaluate(predicted, true, target="number")
    pairs = list(zip(true.T, predicted.T, strict=True))
    expected = {
        "r2": peers.r2_score(true, predicted),
        "mae": peers.mean_absolute_error(true, predicted),
        "rmse": peers.root_mean_squared_error(true, predicted),
        "median_error": peers.median_absolute_error(true, predicted),
        "pearson": np.mean([stats.pearsonr(*pair)[0] for pair in pairs]),
        "spearman": np.mean([stats.spearmanr(*pair)[0] for pair in pairs]),
        "kendall": np.mean([stats.kendalltau(*pair)[0] for pair in pairs]),
    }
    assert {name: found[name].value for name in NAMES} == pytest.approx(expected)


@pytest.mark.parametrize("path", files_of("regression_metrics"), ids=lambda path: path.stem if path else "")
def test_values_are_those_of_the_reference(path):
    given = load_file(path)
    scores = read(given["input.prediction"], given["input.y"])
    names = {"r2": "r2_per_target", "rmse": "rmse", "pearson": "pearson", "spearman": "spearman",
             "kendall": "kendall_tau_b", "mae": "mae", "median_error": "median_ae",
             "r2_against_training": "r2_against_train_mean"}  # fmt: skip
    found = measure({"rows": scores, **beside(scores, given["input.y_train"])}).metrics
    for name, told in names.items():
        assert found[name].value == pytest.approx(given[f"output.{told}"].mean(), rel=1e-10), name
    ends = given["output.interval_lower"], given["output.interval_upper"]
    level = 1 - float(given["hyper.interval_alpha"])
    found = measure({"intervals": IntervalScores(*ends, given["input.y"], level)}).metrics
    for name, told in {"coverage": "coverage", "width": "mean_width", "score": "score"}.items():
        assert found[f"interval_{name}"].value == pytest.approx(given[f"output.interval_{told}"].mean(), rel=1e-10)
    quantiles = np.repeat(given["input.prediction"][:, :, None], 5, axis=2)
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    found = measure({"quantiles": QuantileScores(quantiles, np.array(levels), given["input.y"])}).metrics["pinball"]
    assert found.value == pytest.approx(np.mean([given[f"output.pinball_{level}"].mean() for level in levels]))


def test_r2_against_training_takes_the_mean_of_the_training_rows():
    true, predicted = some()
    found = measured(true, predicted, training=2.0)["r2_against_training"].value
    assert found == pytest.approx(1 - ((true - predicted) ** 2).sum() / ((true - 2.0) ** 2).sum())
    assert found > measured(true, predicted)["r2"].value


@pytest.mark.parametrize("name", ["rmse", "r2", "pearson", "spearman", "kendall"])
def test_derivatives_are_those_of_rows_that_weigh_more(name):
    true, predicted = (values[:, 0] for values in some(30, ties=True))
    statistic = getattr(regression, name)
    _, derivative = statistic(true, predicted)
    assert derivative.sum() == pytest.approx(0, abs=1e-12)
    times = np.full(30, 400)
    for row in range(4):
        more = times + 4 * (np.arange(30) == row)
        values = [statistic(np.repeat(true, w), np.repeat(predicted, w))[0] for w in (times, more)]
        assert (values[1] - values[0]) / (4 / 400) == pytest.approx(derivative[row], abs=2e-4)


def truth():
    """Of y = 0.9 f + 0.1 + 0.8 e predicted as f, with f and e standard normal; training rows have the mean 0.3."""
    error, variance, r = stats.foldnorm(c=0.1 / np.hypot(0.1, 0.8), scale=np.hypot(0.1, 0.8)), 1.45, 0.9 / 1.45**0.5
    return {
        "r2": 1 - 0.66 / variance, "r2_against_training": 1 - 0.66 / (variance + 0.04), "mae": error.mean(),
        "rmse": 0.66**0.5, "median_error": error.median(), "pearson": r, "spearman": 6 / np.pi * np.arcsin(r / 2),
        "kendall": 2 / np.pi * np.arcsin(r),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 200, 1000])
def test_intervals_cover_the_truth_93_to_97_times_in_100(n):
    hits = dict.fromkeys(truth(), 0)
    for seed in range(1000):
        for name, found in measured(*some(n, seed=seed)).items():
            hits[name] += found.low <= truth()[name] <= found.high
    assert {name: hit for name, hit in hits.items() if not 925 <= hit <= 975} == {}


@pytest.mark.slow
def test_intervals_of_grouped_rows_cover_the_truth_and_those_of_rows_alone_do_not():
    hits, alone, value = 0, 0, (2 / np.pi) ** 0.5
    groups = np.repeat(np.arange(60), 5)
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        error = np.sqrt(0.8) * np.repeat(rng.normal(size=60), 5) + np.sqrt(0.2) * rng.normal(size=300)
        labels = rng.normal(size=(300, 1))
        found, other = (measured(labels, labels - error[:, None], of)["mae"] for of in (groups, None))
        hits, alone = hits + (found.low <= value <= found.high), alone + (other.low <= value <= other.high)
    assert 930 <= hits <= 970
    assert alone < 850


def test_intervals_take_rows_of_a_group_for_one():
    true, predicted = some(60)
    once = measured(true, predicted)
    groups = np.repeat(np.arange(60), 4)
    four = measured(np.repeat(true, 4, axis=0), np.repeat(predicted, 4, axis=0), groups)
    for name in ("mae", "rmse", "r2", "pearson", "spearman"):
        assert (four[name].low, four[name].high) == pytest.approx((once[name].low, once[name].high), rel=0.02)


def test_scale_and_unit_scale_errors_and_leave_all_else():
    true, predicted = some()
    plain, scaled = measured(true, predicted), measured(1e-6 * true + 5, 1e-6 * predicted + 5, training=5 + 3e-7)
    for name, found in plain.items():
        factor = 1e-6 if name in ("mae", "rmse", "median_error") else 1
        for end in ("value", "low", "high"):
            assert getattr(scaled[name], end) == pytest.approx(factor * getattr(found, end), rel=1e-6)


def test_r2_is_at_most_the_square_of_the_correlation():
    for seed in range(20):
        found = measured(*some(30, seed=seed))
        assert found["r2"].value <= found["pearson"].value ** 2 + 1e-12


def test_a_constant_has_no_correlation_and_equal_numbers_no_r2():
    true, predicted = some()
    assert set(measured(true, np.zeros_like(true))) == {"r2", "r2_against_training", "mae", "rmse", "median_error"}
    assert "r2" not in measured(np.ones_like(true), predicted)


def test_a_perfect_prediction_has_no_width_and_no_error():
    true, _ = some()
    found = measured(true, true)
    assert [found[name].value for name in NAMES] == pytest.approx([1, 0, 0, 0, 1, 1, 1])
    assert all(interval.low <= interval.value <= interval.high for interval in found.values())


def test_rows_of_predictions_give_every_metric_again():
    true, predicted = some(50, columns=2)
    scores = read(predicted, true)
    again = restored(scores.arrays(), "number")
    for name, values in measure({"rows": scores}).rows.items():
        np.testing.assert_allclose(known()[name].rows(again), values)
        assert values.mean() == pytest.approx(evaluate(predicted, true, target="number")[name].value)


def test_errors_are_shown_with_four_digits_whatever_their_unit():
    shown = [known()["mae"].spelled(value) for value in (44.3, 1e-5, 12345.6, 0.0)]
    assert shown == ["44.30", "0.00001000", "12350", "0.000"]
    assert known()["r2"].spelled(-0.0001) == "0.000"


@pytest.mark.parametrize(
    ("predicted", "true", "text"),
    [
        (np.zeros((3, 2)), np.zeros(3), r"predictions have shape \(3, 2\) and numbers to predict \(3,\)"),
        (np.array([1.0, np.nan]), np.zeros(2), r"row 1 has the prediction \[nan\] for \[0.0\], expected finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(predicted, true, text):
    with pytest.raises(InputError, match=text):
        evaluate(predicted, true, target="number")


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    return measured(*some(40, columns=2))


def test_errors_of_groups_are_their_own_means_and_a_row_alone_has_no_interval():
    true, predicted = some(n=60, columns=2)
    groups = np.append(np.arange(59) % 3, 3)
    found = regression.errors_by_group(read(predicted, true), groups)
    for g, intervals in enumerate(found):
        expected = np.abs(true - predicted)[groups == g].mean(axis=0)
        assert [interval.value for interval in intervals] == pytest.approx(expected.tolist())
    assert all(interval.low < interval.value < interval.high for interval in found[0])
    assert found[3][0].high == np.inf


def test_intervals_of_errors_in_groups_hold_the_truth():
    rng, inside = np.random.default_rng(0), []
    groups, scales = np.repeat(np.arange(5), 20), np.arange(1, 6)
    for _ in range(300):
        errors = rng.normal(size=100) * scales[groups]
        found = regression.errors_by_group(read(np.zeros(100), errors), groups)
        truth = scales * np.sqrt(2 / np.pi)
        inside += [one.low <= t <= one.high for (one,), t in zip(found, truth, strict=True)]
    assert 0.92 < np.mean(inside) < 0.97
