import inspect
import pickle

import numpy as np
import pytest
import yaml
from known_bayes import correlated_tokens
from moment_rows import equal_means
from places import ROOT
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from probe.core.errors import InputError
from probe.heads.fixed_moments import FixedMoments
from probe.heads.linear import LinearProbe
from probe.heads.shared.head import Head

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def small(**parameters):
    return FixedMoments(**({"hidden_width": 8, "n_groups": 2, "Cs": (1e-2,)} | parameters))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("projection", "hidden_width", "n_groups"), [("pca", 8, 1), ("random", 32, 2)])
@pytest.mark.parametrize("second_moment", ["as_released", "centred"])
def test_equal_means_other_covariance_is_seen_by_second_moments_alone(
    projection, hidden_width, n_groups, second_moment, device
):
    (X, y), (X_test, y_test) = equal_means(1000), equal_means(400, seed=1)
    linear = LinearProbe(Cs=[1.0]).fit(X["pooled"], y).score(X_test["pooled"], y_test)
    head = FixedMoments(projection, second_moment, hidden_width, n_groups, Cs=(1e-2,), device=device).fit(X, y)
    assert abs(linear - 0.5) < 0.08
    assert head.score(X_test, y_test) >= 0.97


def contract_case():
    """The tokens of the tests of all heads have two features."""
    return {"hidden_width": 2, "n_groups": 1}


def test_accuracy_is_near_that_of_bayes_where_covariances_alone_differ_and_misses_it_on_their_lengths():
    (X, y, _), (X_test, y_test, bayes) = correlated_tokens(6000), correlated_tokens(2000, seed=1)
    head = FixedMoments("random", hidden_width=64, n_groups=2, Cs=(1e-2,)).fit(X, y)
    assert 0.97 < bayes < 0.99
    assert head.score(X_test, y_test) > bayes - 0.02
    # Columns of unit length and normalised tokens forget how large tokens are.
    for part, labels in ((X, y), (X_test, y_test)):
        part["tokens"] = np.random.default_rng(len(labels)).standard_normal(part["tokens"].shape).astype(np.float32)
        part["tokens"] *= np.where(labels == 1, 2, 1)[:, None, None]
        part["pooled"] = np.zeros_like(part["pooled"])
    assert FixedMoments("random", hidden_width=8, n_groups=2, Cs=(1e-2,)).fit(X, y).score(X_test, y_test) < 0.7


@pytest.mark.parametrize("second_moment", ["as_released", "centred"])
def test_logits_equal_those_of_moments_computed_by_hand(second_moment):
    X, y = equal_means(60)
    y[:10] = 2
    head = small(second_moment=second_moment).fit(X, y)
    patches = X["tokens"].reshape(-1, 8).astype(np.float64)
    projected = ((patches - patches.mean(axis=0)) @ head.directions_).reshape(60, 25, 8)
    groups = np.stack([projected[..., 0::2], projected[..., 1::2]], axis=1)
    groups = (groups - groups.mean(axis=3, keepdims=True)) / np.sqrt(groups.var(axis=3, keepdims=True) + 1e-5)
    groups -= groups.mean(axis=2 if second_moment == "centred" else (2, 3), keepdims=True)
    maps = np.einsum("ntd,nte->nde", groups[:, 0], groups[:, 1])
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)
    Z = StandardScaler().fit_transform(np.hstack([X["pooled"], maps.reshape(60, -1)]))
    reference = LogisticRegression(C=1e-2, tol=1e-8).fit(Z, y)
    np.testing.assert_allclose(head.predict_proba(X), reference.predict_proba(Z), atol=2e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("projection", ["pca", "random"])
def test_cuda_agrees_with_the_cpu(projection):
    X, y = equal_means(60)
    X["tokens"] *= np.linspace(1, 3, 8, dtype=np.float32)
    expected, found = (small(projection=projection, device=device).fit(X, y).logits(X) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("projection", ["pca", "random"])
def test_permuting_or_repeating_tokens_moves_no_logit(projection):
    X, y = equal_means(60)
    head = small(projection=projection).fit(X, y)
    order = np.random.default_rng(0).permutation(25)
    for tokens in (X["tokens"][:, order], np.repeat(X["tokens"], 2, axis=1)):
        np.testing.assert_allclose(head.logits(X | {"tokens": tokens}), head.logits(X), atol=1e-5)


def test_principal_directions_span_those_of_scikit_learn_and_stay_orthonormal():
    X, y = equal_means(60)
    X["tokens"] = X["tokens"] * np.linspace(1, 3, 8, dtype=np.float32) + 5
    directions = small(hidden_width=4).fit(X, y).directions_
    components = PCA(4).fit(X["tokens"].reshape(-1, 8)).components_
    np.testing.assert_allclose(directions.T @ directions, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(directions @ directions.T, components.T @ components, atol=1e-4)


@pytest.mark.parametrize("projection", ["pca", "random"])
def test_the_seed_determines_the_directions(projection):
    X, y = equal_means(60)
    drawn = [small(projection=projection, random_state=seed).fit(X, y).directions_ for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_prefix_tokens_stay_out_of_the_moments():
    X, y = equal_means(60)
    head = small(n_prefix_tokens=2).fit(X, y)
    poisoned = X["tokens"].copy()
    poisoned[:, :2] = 1e3
    X = X | {"tokens": poisoned}
    assert np.array_equal(small(n_prefix_tokens=2).fit(X, y).logits(X), head.logits(X))


def test_selection_is_recorded_and_the_refit_equals_fitting_on_both():
    (X, y), (X_other, y_other), (X_test, _) = (equal_means(100 + n, seed=n) for n in range(3))
    head = small(Cs=(1e-6, 1e-1, 1e-2)).fit(X, y, validation=(X_other, y_other))
    assert head.selection_["on"] == "validation"
    assert [tried["C"] for tried in head.selection_["searched"]] == [1e-6, 1e-2, 1e-1]
    chosen = head.selection_["chosen"]["C"]
    assert max(head.selection_["searched"], key=lambda tried: tried["score"])["C"] == chosen
    both = {kind: np.concatenate([X[kind], X_other[kind]]) for kind in X}
    alone = small(Cs=(chosen,)).fit(both, np.concatenate([y, y_other]))
    np.testing.assert_allclose(head.logits(X_test), alone.logits(X_test), atol=1e-6)
    kept = small(Cs=(1e-6, 1e-1, 1e-2), refit=False).fit(X, y, validation=(X_other, y_other))
    np.testing.assert_allclose(kept.logits(X_test), small(Cs=(chosen,)).fit(X, y).logits(X_test), atol=1e-6)
    assert small(Cs=(1e-3, 1e-2)).fit(X, y).selection_["on"] == "a tenth of the training rows"
    first = {kind: value[:2] for kind, value in X.items()}
    assert small(Cs=(1e-3, 1e-2)).fit(first, [0, 1]).selection_["chosen"] == {"C": 1e-3}


def test_memmaps_fit_as_arrays_do(tmp_path):
    X, y = equal_means(60)
    X = {kind: value.astype(np.float16) for kind, value in X.items()}
    for kind, value in X.items():
        np.save(tmp_path / f"{kind}.npy", value)
    mapped = {kind: np.load(tmp_path / f"{kind}.npy", mmap_mode="r") for kind in X}
    assert np.array_equal(small().fit(mapped, y).logits(mapped), small().fit(X, y).logits(X))
    X["tokens"][7] = np.nan
    np.save(tmp_path / "tokens.npy", X["tokens"])
    mapped["tokens"] = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    with pytest.raises(InputError, match="row 7 of tokens holds NaN or inf"):
        small(projection="random", Cs=(1e-2,)).fit(mapped, y)


def test_saved_pickled_and_cloned_heads_predict_the_same(tmp_path):
    X, y = equal_means(60)
    head = small().fit(X, y)
    head.save(tmp_path / "head.safetensors")
    for copy in (Head.load(tmp_path / "head.safetensors"), pickle.loads(pickle.dumps(head)), clone(head).fit(X, y)):
        assert np.array_equal(copy.logits(X), head.logits(X))


@pytest.mark.parametrize("second_moment", ["as_released", "centred"])
def test_constant_features_one_token_and_single_row_classes_stay_finite(second_moment):
    X = {"pooled": np.ones((6, 8), np.float32), "tokens": np.ones((6, 1, 8), np.float32)}
    head = small(second_moment=second_moment).fit(X, [0, 0, 0, 0, 1, 2])
    assert np.isfinite(head.predict_proba(X)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"projection": "ica"}, r"projection is 'ica': choose one of \['pca', 'random'\]"),
        ({"n_groups": 3}, "3 groups do not divide a width of 8"),
        ({"hidden_width": 16}, "hidden_width is 16 and tokens have 8 principal directions: lower hidden_width or set"),
        (
            {"hidden_width": 512, "n_groups": 2},
            "in 2 groups gives 65536 moments a row, and at most 16384 can be solved",
        ),
        ({"n_prefix_tokens": 25}, "n_prefix_tokens is 25 and there are 25 tokens"),
        ({"Cs": (0.0,)}, r"Cs is \(0.0,\), expected positive numbers"),
    ],
)
def test_parameters_that_cannot_work_are_refused(parameters, message):
    X, y = equal_means(30)
    with pytest.raises(InputError, match=message):
        small(**parameters).fit(X, y)


def test_yaml_lists_every_parameter_with_its_python_default():
    written = yaml.safe_load((ROOT / "conf" / "head" / "fixed_moments.yaml").read_text())
    assert written.pop("_target_") == "probe.heads.fixed_moments.FixedMoments"
    defaults = {name: p.default for name, p in inspect.signature(FixedMoments).parameters.items()}
    assert written == {name: list(v) if isinstance(v, tuple) else v for name, v in defaults.items()}
