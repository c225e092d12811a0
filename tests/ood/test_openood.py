"""Every score and every measure against those that OpenOOD gave, and what holds of them by their equations."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file

from probe.heads.knn import KNearest
from probe.heads.lda import LinearDiscriminant
from probe.heads.ridge import RidgeProbe
from probe.metrics.ood import NAMES, Detection
from probe.ood.boundaries import distance_to_boundaries, nearness_to_weights
from probe.ood.confidence import energy, generalised_entropy, largest_logit, largest_probability
from probe.ood.mahalanobis import mahalanobis, relative_mahalanobis
from probe.ood.neighbours import guided_energy, kth_nearest
from probe.ood.shared.score import NOT_LINEAR, Known, Rows, scores
from probe.ood.subspace import residual, virtual_logit


class Given:
    """A head with the weights of a file."""

    def __init__(self, W, b):
        self.coef_, self.intercept_, self.classes_ = W, b, np.arange(len(W))

    def logits(self, X):
        return X @ self.coef_.T + self.intercept_


def known_rows(data, part="train"):
    y = data[f"input.{part}.labels"]
    return Known(data[f"input.{part}.features"], y, Given(data["param.W"], data["param.b"]))


def bank_of(data):
    """The first batches until they exceed their share of the training rows."""
    size, share = int(data["hyper.batch_size"]), float(data["hyper.nnguide_K_alpha"][1])
    n = len(data["input.train.labels"])
    n_batches = next(k for k in range(1, n + 2) if k * size > share * n or k * size >= n)
    return np.arange(min(n, n_batches * size))


def as_released(data):
    known, dim = known_rows(data), int(data["hyper.vim_residual_dim"])

    def of_logits(function, **more):
        return lambda rows: function(rows.logits.astype(np.float64), **more)

    return {
        "msp": of_logits(largest_probability),
        "maxlogit": of_logits(largest_logit),
        "energy_T1": of_logits(energy),
        "energy_T2.5": of_logits(energy, temperature=2.5),
        "gen_g0.1_M100": of_logits(generalised_entropy),
        "gen_g0.5_M3": of_logits(generalised_entropy, gamma=0.5, n_largest=3),
        "knn": kth_nearest(known, int(data["hyper.knn_K"])),
        "nnguide": guided_energy(known, int(data["hyper.nnguide_K_alpha"][0]), bank_of(data)),
        "mds": mahalanobis(known),
        "rmds": relative_mahalanobis(known),
        "vim": virtual_logit(known, dim),
        "residual": residual(known_rows(data, "val"), dim),
        "fdbd_distance": distance_to_boundaries(known),
        "fdbd_norm": distance_to_boundaries(known, about_mean=False),
        "nci": nearness_to_weights(known, float(data["hyper.nci_alpha"])),
    }


@pytest.mark.parametrize("path", files_of("openood"), ids=lambda path: getattr(path, "stem", "none"))
def test_scores_and_measures_are_those_of_the_released_code(path):
    data = load_file(path)
    for name, score in as_released(data).items():
        found = {}
        for part in ("id", "ood"):
            rows = Rows(data[f"input.{part}.features"], data[f"output.{part}.logits"])
            expected = data[f"output.{name}.{part}"].astype(np.float64)
            found[part] = score(rows)
            scale = np.abs(expected).mean()
            tolerance = 5e-5 if name.startswith(("gen", "vim")) else 5e-6
            np.testing.assert_allclose(found[part], expected, rtol=0, atol=tolerance * scale, err_msg=name)
        measured = Detection(data[f"output.{name}.id"], data[f"output.{name}.ood"]).values
        of_ood, auroc, aupr_in, aupr_out, _ = data[f"output.{name}.fpr95_auroc_auprin_auprout_acc"].tolist()
        of_id = float(data[f"output.{name}.fpr95_id_positive"])
        released = dict(zip(NAMES, (auroc, of_id, of_ood, aupr_in, aupr_out), strict=True))
        assert measured == pytest.approx(released, abs=1e-9), name


@pytest.mark.parametrize("path", files_of("openood_metrics"), ids=lambda path: getattr(path, "stem", "none"))
def test_measures_of_hand_made_scores_are_the_released_ones(path):
    data = load_file(path)
    unknown = data["input.label_minus1_is_ood"] == -1
    for name in sorted({key.split(".")[1] for key in data if key.endswith("confidence")}):
        values = data[f"input.{name}.confidence"]
        measured = Detection(values[~unknown], values[unknown]).values
        of_ood, auroc, aupr_in, aupr_out, _ = data[f"output.{name}.fpr95_auroc_auprin_auprout_acc"].tolist()
        of_id = float(data[f"output.{name}.fpr95_id_positive"])
        released = dict(zip(NAMES, (auroc, of_id, of_ood, aupr_in, aupr_out), strict=True))
        assert measured == pytest.approx(released, abs=1e-12), name


@pytest.fixture(scope="module")
def gaussians():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 4
    X = rng.normal(size=(400, 8)) + 6 * np.eye(8)[y]
    return X, y, LinearDiscriminant().fit(X, y)


def test_every_score_tells_rows_far_from_all_classes(gaussians):
    X, y, head = gaussians
    known, rng = Known(X, y, head), np.random.default_rng(1)
    inside = rng.normal(size=(200, 8)) + 6 * np.eye(8)[np.arange(200) % 4]
    outside = rng.normal(size=(200, 8)) + 6 * np.eye(8)[4 + np.arange(200) % 4]
    for name, score in scores().items():
        function = score.fit(known)
        found = [function(Rows(part, known.logits(part))) for part in (inside, outside)]
        assert Detection(*found).values["auroc"] > (0.45 if name == "residual" else 0.8), name


def test_a_head_that_is_not_linear_lacks_what_linear_scores_need(gaussians):
    X, y, _ = gaussians
    known = Known(X, y, KNearest(ks=[3]).fit(X, y))
    lacking = {name for name, score in scores().items() if score.lacks(known)}
    assert lacking == {"residual", "vim", "fdbd", "nci"}
    assert scores()["vim"].lacks(known) == NOT_LINEAR


def test_coefficients_that_do_not_give_the_logits_are_not_believed(gaussians):
    X, y, head = gaussians
    lying = SimpleNamespace(
        coef_=head.coef_ + 1.0, intercept_=head.intercept_, classes_=head.classes_, logits=head.logits
    )
    assert Known(X, y, head).linear is not None
    assert Known(X, y, lying).linear is None


def test_weights_that_sum_to_zero_have_an_origin_near_the_rows(gaussians):
    """OpenOOD's pseudo-inverse keeps a singular value of rounding there, and finds the origin millions away."""
    X, y, head = gaussians
    W, b = head.coef_ - head.coef_.mean(axis=0), head.intercept_ - head.intercept_.mean()
    centred = Given(W.astype(np.float32), b.astype(np.float32))
    found = virtual_logit(Known(X.astype(np.float32), y, centred))(Rows(X, centred.logits(X)))
    expected = virtual_logit(Known(X, y, Given(W, b)))(Rows(X, X @ W.T + b))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_virtual_logits_of_many_rows_in_float32_are_those_in_float64(gaussians, monkeypatch):
    X, y, _ = gaussians
    known = Known((X + 100).astype(np.float32), y, LinearDiscriminant().fit(X + 100, y))
    asked = Rows(X[:20] + 100, known.logits(X[:20] + 100))
    found = {}
    for limit in (0, 1e10):
        monkeypatch.setattr("probe.ood.subspace.FLOAT64_PRODUCTS", limit)
        found[limit] = virtual_logit(known)(asked)
    assert not np.array_equal(found[0], found[1e10])
    np.testing.assert_allclose(found[0], found[1e10], rtol=1e-5, atol=1e-5 * np.abs(found[0]).max())


def test_a_class_without_training_rows_takes_no_part(gaussians):
    X, y, _ = gaussians
    head = RidgeProbe([1.0]).partial_fit(X, y, classes=np.arange(6))
    known = Known(X, y, head)
    assert known.logits(X).shape == (400, 4)
    for name, score in scores().items():
        assert np.isfinite(score.fit(known)(Rows(X[:20], known.logits(X[:20])))).all(), name


def test_one_order_has_the_same_measures_whatever_the_scale():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(1, 1, 300), rng.normal(0, 1, 200)
    assert Detection(known, unknown).values == Detection(np.exp(known), np.exp(unknown)).values
    turned = Detection(-unknown, -known).values
    assert turned["auroc"] == pytest.approx(Detection(known, unknown).values["auroc"])
    assert turned["fpr95"] == Detection(known, unknown).values["fpr95_ood_positive"]


@pytest.mark.parametrize("decimals", [0, 8])
def test_parts_of_the_known_rows_mean_the_measure(decimals):
    rng = np.random.default_rng(0)
    found = Detection(rng.normal(1, 1, 301).round(decimals), rng.normal(0, 1, 77).round(decimals))
    assert found.placements.mean() == pytest.approx(found.values["auroc"], abs=1e-12)
    assert found.rejected.mean() == pytest.approx(found.values["fpr95_ood_positive"], abs=1e-12)


def test_a_perfect_score_has_intervals_of_some_width():
    found = Detection(np.ones(50), np.zeros(40))
    assert found.values == {"auroc": 1, "fpr95": 0, "fpr95_ood_positive": 0, "aupr_in": 1, "aupr_out": 1}
    assert found.interval("fpr95").high > 0.02
    assert found.interval("auroc").low < 0.98


def coverage(n, m, shift, n_repeats):
    rng = np.random.default_rng(0)
    big = Detection(rng.normal(shift, 1, 200_000), rng.normal(0, 1, 200_000)).values
    hits = dict.fromkeys(("auroc", "fpr95", "fpr95_ood_positive"), 0)
    for seed in range(n_repeats):
        found = Detection(rng.normal(shift, 1, n), rng.normal(0, 1, m), seed)
        for name in hits:
            interval = found.interval(name)
            hits[name] += interval.low <= big[name] <= interval.high
    return {name: hit / n_repeats for name, hit in hits.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "shift"), [(100, 100, 1.5), (500, 100, 3.0), (200, 1000, 2.0), (1000, 1000, 4.0)])
def test_intervals_hold_the_truth(n, m, shift):
    found = coverage(n, m, shift, 400)
    assert all(share >= 0.9 for share in found.values()), found


def test_intervals_hold_the_truth_in_a_few_draws():
    found = coverage(150, 150, 2.0, 50)
    assert all(share >= 0.88 for share in found.values()), found
