import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression

from probe.heads.shared.mixtures import combined, doubt, gate_features

FILES = pytest.mark.parametrize("path", files_of("gzsl"), ids=lambda path: getattr(path, "stem", "none"))
NAMES = {"adaptive": "adaptive_smoothing", "constant": "const_smoothing", "total": "vanilla_total_prob"}


def experts(n=50, seed=0):
    rng = np.random.default_rng(seed)
    z, s = rng.dirichlet(np.ones(6), n), np.zeros((n, 6))
    s[:, :4] = rng.dirichlet(np.ones(4), n)
    return z, s, rng.random(n), np.arange(4), np.array([4, 5])


@FILES
@pytest.mark.parametrize("smoothing", NAMES)
def test_mixtures_are_the_released_ones(path, smoothing):
    data = load_file(path)
    of_unseen, of_seen = data["input.pred_ZS__GZSLtest"], data["input.pred_S__GZSLtest"]
    seen, unseen = data["input.seen_classes_test"], data["input.unseen_classes_test"]
    p_seen, gamma = data["output.gate_T3.p_seen_test"], float(data["hyper.const_smoothing_gamma"])
    for i, (threshold, width) in enumerate(data["hyper.threshold_Tcond"]):
        soft = doubt(p_seen, threshold, width)
        for gate, p_unseen in {"soft": soft, "hard": (p_seen < threshold).astype(float)}.items():
            found = combined(of_unseen, of_seen, p_unseen, seen, unseen, smoothing, gamma)
            expected = data[f"output.{NAMES[smoothing]}.{gate}.{i}.combined"]
            np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=f"{gate} {i}")


@FILES
def test_the_gate_and_what_it_looks_at_are_the_released_ones(path):
    data = load_file(path)
    rows = {}
    for part, unseen in (("val", "input.unseen_classes_val"), ("test", "input.unseen_classes_test")):
        z, s = data[f"input.pred_ZS__GZSL{part}"], data[f"input.pred_S__GZSL{part}"]
        rows[part] = gate_features(z[:, data[unseen]], s, 3.0, 5)
        np.testing.assert_allclose(rows[part], data[f"output.gate_T3.features_{part}"], atol=1e-12)
    fitted = np.arange(len(rows["val"])) % 3 != 0
    is_seen = np.isin(data["input.Y_GZSLval"], data["input.seen_classes_val"])
    gate = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8).fit(rows["val"][fitted], is_seen[fitted])
    np.testing.assert_allclose(gate.predict_proba(rows["test"])[:, 1], data["output.gate_T3.p_seen_test"], atol=1e-8)


def test_smoothing_off_is_the_hard_gate():
    z, s, p_unseen, seen, unseen = experts()
    found = combined(z, s, p_unseen, seen, unseen, "none").argmax(axis=1)
    expected = np.where(p_unseen > 0.5, unseen[z[:, unseen].argmax(axis=1)], s.argmax(axis=1))
    np.testing.assert_array_equal(found, expected)
    narrow = doubt(1 - p_unseen, 0.5, 1e-9)
    np.testing.assert_array_equal(combined(z, s, narrow, seen, unseen, "total").argmax(axis=1), expected)


def test_a_gate_that_is_sure_asks_one_expert():
    z, s, _, seen, unseen = experts()
    for smoothing in NAMES:
        sure = [combined(z, s, np.full(50, p), seen, unseen, smoothing).argmax(axis=1) for p in (0.0, 1.0)]
        np.testing.assert_array_equal(sure[0], s.argmax(axis=1))
        np.testing.assert_array_equal(sure[1], unseen[z[:, unseen].argmax(axis=1)])


def test_only_total_probability_sums_to_1():
    z, s, p_unseen, seen, unseen = experts()
    np.testing.assert_allclose(combined(z, s, p_unseen, seen, unseen, "total").sum(axis=1), 1)
    assert not np.allclose(combined(z, s, p_unseen, seen, unseen, "adaptive").sum(axis=1), 1)


def test_the_gate_does_not_know_which_classes_it_looks_at():
    z, s, _, seen, unseen = experts()
    order = np.random.default_rng(1).permutation(4)
    np.testing.assert_allclose(
        gate_features(z[:, unseen], s[:, seen], 3.0, 2), gate_features(z[:, unseen[::-1]], s[:, order], 3.0, 2)
    )


def test_a_wide_gate_doubts_everything_alike():
    np.testing.assert_allclose(doubt(np.array([0.1, 0.9]), 0.5, 1e9), 0.5)
