"""Measures of neural collapse against released values, definitions and the closed form."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import files_of
from safetensors.numpy import load_file

from probe.heads.shared.moments import ClassMoments
from probe.metrics.shared.collapse import of_means, of_weights, simplex, structure, within_between


def frozen_case():
    rng = np.random.default_rng(0)
    means, W, A = rng.normal(size=(3, 5)), rng.normal(size=(3, 5)), rng.normal(size=(5, 5))
    return {
        "nc1": within_between(np.array([5.0, 10, 20]), means, A @ A.T), **of_means(means), **of_weights(W, means),
        "structure": structure(np.array([5, 10, 20]), 1e-3, 2e-3),
    }  # fmt: skip


@pytest.mark.parametrize("path", files_of("collapse"), ids=lambda path: getattr(path, "stem", "none"))
def test_measures_are_those_of_the_released_code_and_the_definitions(path):
    data = load_file(path)
    for case in sorted({key.split(".")[1] for key in data if key.startswith("definition64.")}):
        X, y, W = data[f"input.{case}.features"], data[f"input.{case}.labels"], data[f"param.{case}.W"]
        moments = ClassMoments(len(W), X.shape[1], second="full").update(X.astype(np.float64), y)
        found = {"nc1": within_between(moments.counts, moments.means, moments.within())}
        found |= of_means(moments.means) | of_weights(W.astype(np.float64), moments.means)
        own = f"definition64.{case}.mean_of_means."
        expected = {
            "nc1": own + "nc1_within_over_N", "nc2_means": own + "nc2_etf_of_means",
            "nc2_length_variation": own + "cv_of_mean_norms",
            "nc2_mean_angle_off": own + "mean_abs_cosine_plus_1_over_Km1",
            "nc2_weights": f"definition64.{case}.nc2_etf_of_W", "nc3": own + "nc3_WH",
            "nc3_difference": own + "nc3_W_minus_M",
        }  # fmt: skip
        assert found == pytest.approx({name: float(data[key]) for name, key in expected.items()}, rel=1e-8)
        released = float(data[f"output.{case}.nc2_etf_of_W"])
        assert found["nc2_weights"] == pytest.approx(released, rel=1e-4)
        logits = X @ W.T + data[f"param.{case}.b"]
        off = logits.argmax(axis=1) != ((X[:, None] - moments.means) ** 2).sum(axis=2).argmin(axis=1)
        assert off.mean() == pytest.approx(float(data[f"definition64.{case}.nc4_disagreement"]))


@pytest.mark.parametrize("path", files_of("collapse"), ids=lambda path: getattr(path, "stem", "none"))
def test_the_closed_form_is_what_a_solver_of_the_unconstrained_model_finds_and_as_released(path):
    data = load_file(path)
    for case in sorted({key.split(".")[2] for key in data if key.startswith("closed_form.")}):
        lambda_W, lambda_H, _ = data[f"hyper.gof.{case}.lamW_lamH_d"].tolist()
        found = structure(data[f"input.gof.{case}.class_counts"], lambda_W, lambda_H)
        own = f"closed_form.gof.{case}."
        np.testing.assert_allclose(found.weights, data[own + "w_norm2"], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.features, data[own + "h_norm2"], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.products, data[own + "w_dot_h"], rtol=1e-9, atol=1e-12)
        W, H = data[f"numeric.gof.{case}.W"], data[f"numeric.gof.{case}.class_mean_features"]
        np.testing.assert_allclose((W**2).sum(axis=1), found.weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(W @ H.T, np.diag(found.products), atol=1e-4)


def test_a_simplex_that_weights_follow_has_collapsed_and_random_labels_have_not():
    K = 4
    vectors = np.linalg.cholesky(simplex(K) + 1e-12 * np.eye(K))
    rng = np.random.default_rng(0)
    moments = ClassMoments(K, K, second="full").update(
        np.repeat(vectors, 10, axis=0) + 3.0, np.repeat(np.arange(K), 10)
    )
    found = {"nc1": within_between(moments.counts, moments.means, moments.within())}
    found |= of_means(moments.means) | of_weights(vectors, moments.means)
    assert all(abs(value) < 1e-5 for value in found.values()), found
    shuffled = ClassMoments(K, 6, second="full").update(rng.normal(size=(400, 6)), np.arange(400) % K)
    assert within_between(shuffled.counts, shuffled.means, shuffled.within()) > 10


def test_a_class_collapses_at_the_threshold_and_not_before():
    counts = np.array([50, 20, 10, 5, 2])
    threshold = 2 / counts.sum() ** 2
    assert structure(counts, threshold * 1.01, 1.0).weights[-1] == 0
    assert structure(counts, threshold * 0.99, 1.0).weights[-1] > 0
