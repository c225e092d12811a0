import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from probe.metrics.evaluate import measure
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import score
from probe.metrics.tadpole import HalfIntervals, balanced, pairs_auroc, weighted_error

SHIFT = np.array([[1.5, 0, 0], [0, 1, 0.5], [0, 0, 1.2]])


def rows(n=200, seed=0, shares=(0.5, 0.3, 0.2)):
    """Labels and logits of three classes that overlap."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=shares)
    return labels, SHIFT[labels] + rng.normal(size=(n, 3))


def of_classes(labels, logits):
    return measure({"rows": score(logits, labels)}, [known()["mAUC"], known()["BCA"]]).metrics


def half(n=200, seed=0, columns=1, groups=None):
    """Normal numbers, means and intervals of half of them that are a little too wide."""
    rng = np.random.default_rng(seed)
    scale, error = rng.uniform(0.5, 2, (n, columns)), rng.normal(size=(n, columns))
    if groups is not None:
        error = error[: groups.max() + 1][groups]
    mean = rng.normal(size=(n, columns))
    wide = 0.8 * scale
    return HalfIntervals(mean - wide, mean + wide, mean + scale * error, mean, groups)


def of_intervals(scores):
    return measure({"half": scores}).metrics


@pytest.mark.parametrize("path", files_of("tadpole_metrics"), ids=lambda path: path.stem if path else "")
def test_values_are_those_of_the_reference(path):
    given = load_file(path)
    with np.errstate(divide="ignore"):
        logits = np.log(given["output.matched.probabilities"])
        ties = np.log(given["input.ties.probabilities"])
    labels = given["input.diagnosis"]
    found = of_classes(labels, logits)
    assert found["mAUC"].value == pytest.approx(float(given["output.mAUC"]), rel=1e-12)
    assert found["mAUC"].value == pytest.approx(float(given["comparison.sklearn_ovo_macro_auc"]), rel=1e-12)
    assert found["BCA"].value == pytest.approx(float(given["output.BCA"]), rel=1e-12)
    # Probabilities that differ by rounding alone are ties here.
    rounded = roc_auc_score(labels, given["input.ties.probabilities"].round(9), multi_class="ovo")
    assert of_classes(labels, ties)["mAUC"].value == pytest.approx(rounded, rel=1e-12)
    for case, key in (("absent_class", "labels"), ("missing_class", "hard_class")):
        true = given[f"input.{case}.labels"] if key == "labels" else labels
        said = given["output.matched.hard_class"] if key == "labels" else given[f"input.{case}.hard_class"]
        scores = score(4 * np.eye(3)[said], true)
        assert balanced(scores)[0] == pytest.approx(float(given[f"output.{case}.BCA"]), rel=1e-12)
    for name, told in (("ADAS13", "adas"), ("Ventricles", "ventricles")):
        ends = (given[f"output.matched.{told}_{end}"] for end in ("lower", "upper"))
        true = given["input.adas13" if told == "adas" else "input.ventricles"]
        columns = [values[:, None].astype(float) for values in (*ends, true, given[f"output.matched.{told}"])]
        found = of_intervals(HalfIntervals(*columns))
        assert found["WES"].value == pytest.approx(float(given[f"output.{name}_WES"]), rel=1e-12)
        assert found["CPA"].value == pytest.approx(float(given[f"output.{name}_CPA"]), rel=1e-12)


def test_the_area_over_pairs_is_that_of_scikit_learn_and_a_half_for_a_constant():
    labels, logits = rows()
    p = np.exp(log_softmax(logits, axis=1))
    assert of_classes(labels, logits)["mAUC"].value == pytest.approx(roc_auc_score(labels, p, multi_class="ovo"))
    assert of_classes(labels, np.zeros((200, 3)))["mAUC"].value == pytest.approx(0.5)
    assert "mAUC" not in of_classes(np.arange(50) % 25, np.zeros((50, 25)))


def test_guessing_one_class_is_balanced_at_a_half():
    labels, _ = rows()
    assert of_classes(labels, np.tile([3.0, 0, 0], (200, 1)))["BCA"].value == pytest.approx(0.5)


def test_equal_widths_weigh_all_errors_alike_and_the_unit_of_widths_has_no_say():
    found = half()
    flat = HalfIntervals(found.predicted - 1, found.predicted + 1, found.labels, found.predicted)
    assert weighted_error(flat)[0] == pytest.approx(np.abs(found.labels - found.predicted).mean())
    middle, wide = (found.low + found.high) / 2, (found.high - found.low) / 2
    wider = HalfIntervals(middle - 7 * wide, middle + 7 * wide, found.labels, found.predicted)
    assert weighted_error(wider)[0] == pytest.approx(weighted_error(found)[0])


def test_an_interval_without_width_or_end_has_no_weight():
    found = half()
    closed = HalfIntervals(found.predicted, found.predicted, found.labels, found.predicted)
    assert list(of_intervals(closed)) == ["CPA"]


@pytest.mark.parametrize("statistic", [pairs_auroc, balanced])
def test_derivatives_are_those_of_rows_that_weigh_more(statistic):
    labels, logits = rows(30)
    _, derivative = statistic(score(logits, labels))
    assert derivative.sum() == pytest.approx(0, abs=1e-12)
    times = np.full(30, 100)
    for row in range(3):
        more = times + (np.arange(30) == row)
        one, two = (statistic(score(np.repeat(logits, w, axis=0), np.repeat(labels, w)))[0] for w in (times, more))
        assert (two - one) / (1 / 100) == pytest.approx(derivative[row], abs=1e-3)


def truth():
    found = of_classes(*rows(50_000, seed=10**6))
    wide, scale = norm.cdf(0.8) - norm.cdf(-0.8), 1.5 / np.log(4)
    return {name: interval.value for name, interval in found.items()} | {
        "WES": scale * norm.expect(abs), "CPA": abs(wide - 0.5)
    }  # fmt: skip


def coverage(n, draws, groups=None):
    expected = truth()
    hits = dict.fromkeys(expected if groups is None else ("WES", "CPA"), 0)
    for seed in range(draws):
        found = of_intervals(half(n, seed, groups=groups)) | ({} if groups is not None else of_classes(*rows(n, seed)))
        for name in hits:
            hits[name] += found[name].low <= expected[name] <= found[name].high
    return {name: 1000 * hit / draws for name, hit in hits.items()}


def test_intervals_cover_the_truth():
    assert {name: hits for name, hits in coverage(60, 100).items() if not 890 <= hits <= 995} == {}


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 200, 1000])
def test_intervals_cover_the_truth_93_to_97_times_in_100(n):
    assert {name: hits for name, hits in coverage(n, 1000).items() if not 925 <= hits <= 980} == {}


@pytest.mark.slow
def test_intervals_of_grouped_rows_cover_the_truth():
    found = coverage(300, 1000, groups=np.repeat(np.arange(100), 3))
    assert {name: hits for name, hits in found.items() if not 925 <= hits <= 980} == {}


def frozen_case():
    """A few numbers of this family, for `tests/contracts/test_recipes.py`."""
    return of_classes(*rows(40)) | of_intervals(half(40, columns=2))
