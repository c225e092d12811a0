import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file

from probe.metrics.evaluate import measure
from probe.metrics.shared.scores import OfSeen, score
from probe.metrics.zero_shot import curve, record

FILES = pytest.mark.parametrize("path", files_of("gzsl"), ids=lambda path: getattr(path, "stem", "none"))
SEEN = np.array([True, True, False, False])


def draw(n=400, seed=0):
    """Logits of two seen and two unseen classes; the unseen ones score too low, as they do."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, n, p=[0.4, 0.2, 0.3, 0.1])
    logits = rng.normal(size=(n, 4)) + 2 * np.eye(4)[labels] - [0, 0, 1, 1]
    return OfSeen(score(np.round(logits, 1), labels), SEEN)


def found(scores):
    return measure({"seen": scores}).metrics


def frozen_case():
    return found(draw(60))


@FILES
def test_accuracies_and_the_area_are_the_released_ones(path):
    data = load_file(path)
    labels, logits = data["input.Y_GZSLtest"], data["input.pred_ZS__GZSLtest"]
    seen = np.isin(np.arange(15), data["input.seen_classes_test"])
    tested = np.bincount(labels, minlength=15) > 0
    # The release counts a class without a test row as 0.
    share_seen, share_unseen = ((tested & mask).sum() / mask.sum() for mask in (seen, ~seen))
    gammas = data["input.stacking_gammas"]
    scores = OfSeen(score(logits, labels), seen)
    of_seen, of_unseen, _ = curve(scores, gammas)
    expected = data["output.calibrated_stacking.acc_ts_tr_h_every_20th"]
    np.testing.assert_allclose(of_unseen[::20] * share_unseen, expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(of_seen[::20] * share_seen, expected[:, 1], atol=1e-6)
    order = np.argsort(of_seen, kind="stable")
    xs, ys = of_seen[order] * share_seen, of_unseen[order] * share_unseen
    area = np.trapezoid(np.concatenate([[ys[0]], ys, [0]]), np.concatenate([[0], xs, [xs[-1]]]))
    assert area == pytest.approx(float(data["output.calibrated_stacking.ausuc_axes_as_named"]), abs=5e-3)
    assert found(scores)["ausuc"].value * share_seen * share_unseen == pytest.approx(area, abs=0.03)


def test_accuracies_are_means_over_classes_that_all_compete():
    scores = draw()
    labels, right = scores.rows.labels, scores.rows.correct
    a, b = (np.mean([right[labels == k].mean() for k in kind]) for kind in ((0, 1), (2, 3)))
    values = {name: interval.value for name, interval in found(scores).items()}
    assert values["acc_seen"] == pytest.approx(a)
    assert values["acc_unseen"] == pytest.approx(b)
    assert values["harmonic_mean"] == pytest.approx(2 * a * b / (a + b))
    assert a > b
    assert a != pytest.approx(right[labels < 2].mean(), abs=1e-4)  # micro accuracy is another number


def test_the_area_is_that_of_the_whole_curve_and_of_a_perfect_gate_the_product():
    scores = draw()
    of_seen, of_unseen, _ = curve(scores)
    assert of_seen[0] == pytest.approx(max(of_seen))
    assert of_unseen[-1] == pytest.approx(max(of_unseen))
    area = abs(np.trapezoid(of_unseen, of_seen))
    assert found(scores)["ausuc"].value == pytest.approx(area, abs=1e-9)
    gated = scores.rows.logits + 100 * (SEEN[scores.rows.labels][:, None] == SEEN)
    perfect = found(OfSeen(score(gated, scores.rows.labels), SEEN))
    assert perfect["ausuc"].value == pytest.approx(perfect["acc_seen"].value * perfect["acc_unseen"].value)


def test_values_of_rows_have_the_metric_as_their_mean_and_derivatives_are_by_row_weight():
    scores = draw(60)
    measured = measure({"seen": scores})
    n, labels, logits = 60, scores.rows.labels, scores.rows.logits
    for name, rows in measured.rows.items():
        assert rows.mean() == pytest.approx(measured.metrics[name].value)
        order = np.concatenate([np.repeat(np.arange(n), 400), [7]])
        more = found(OfSeen(score(logits[order], labels[order]), SEEN))[name].value
        slope = (rows[7] - measured.metrics[name].value) / n
        assert 400 * (more - measured.metrics[name].value) == pytest.approx(slope, abs=1e-4 + 0.01 * abs(slope))


def test_intervals_hold_the_value_of_many_rows():
    truth = {name: interval.value for name, interval in found(draw(100_000, 99)).items()}
    inside = {name: [] for name in truth}
    for seed in range(100):
        for name, interval in found(draw(400, seed)).items():
            inside[name].append(interval.low <= truth[name] <= interval.high)
    assert all(0.89 <= np.mean(hits) <= 1.0 for hits in inside.values()), {k: np.mean(v) for k, v in inside.items()}


def test_a_head_that_knows_no_unseen_class_has_an_area_of_nothing():
    logits = np.array([[2.0, 1, -np.inf, -np.inf]] * 4)
    scores = OfSeen(score(logits, np.array([0, 1, 2, 3])), SEEN)
    values = {name: interval.value for name, interval in found(scores).items()}
    assert values == {"acc_seen": 0.5, "acc_unseen": 0, "harmonic_mean": 0, "ausuc": 0}


def test_the_record_names_unseen_classes_and_keeps_points_of_the_curve():
    told = record(draw(1000), ["ant", "bee", "cow", "dog"])
    assert told["unseen"] == ["cow", "dog"]
    assert 2 < len(told["curve"]["acc_seen"]) <= 202
    assert not found(OfSeen(score(np.eye(4), np.array([0, 1, 0, 1])), SEEN))
