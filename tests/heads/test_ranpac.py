import json

import numpy as np
import pytest
from oracles import files_of
from safetensors import safe_open
from safetensors.numpy import load_file
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import Ridge

from probe.core.errors import InputError
from probe.heads.ncm import NearestClassMean
from probe.heads.ranpac import RandomProjection
from probe.heads.shared.normal_equations import REDUCED_FROM, NormalEquations


def contract_case():
    return {"n_projected": 40}


class Given(RandomProjection):
    """With the projection of a file."""

    given = None

    def _begin(self):
        super()._begin()
        self.projection_ = self.given


@pytest.mark.parametrize("path", files_of("ranpac"), ids=lambda path: getattr(path, "stem", "none"))
@pytest.mark.parametrize("variant", ["rp", "no_rp"])
def test_penalties_and_logits_are_those_of_the_released_code(path, variant):
    data, alphas = load_file(path), None
    with safe_open(path, "numpy") as file:
        tasks = json.loads(file.metadata()["tasks"].replace("(", "[").replace(")", "]"))
    data |= {key: value.astype(np.float64) for key, value in data.items() if key.endswith(".x")}
    alphas, n_classes = data["hyper.lambdas"], tasks[-1][1]
    width = data["param.W_rand"].shape[1] if variant == "rp" else 0

    def head(alphas):
        made = Given(width, alphas)
        made.given = data["param.W_rand"]
        return made

    for t, (_, n_seen) in enumerate(tasks):
        X, y, out = data[f"input.task{t}.x"], data[f"input.task{t}.y"], f"output.{variant}.task{t}."
        n_fit = int(0.8 * len(y))
        chosen = head(alphas).fit(X[:n_fit], y[:n_fit], validation=(X[n_fit:], y[n_fit:]))
        released = data[out + "val_mse_by_lambda"]
        found = -np.array([one["score"] for one in chosen.selection_["searched"]])
        # The mean there is over all classes, also those that have not come.
        np.testing.assert_allclose(found * len(chosen.classes_) / n_classes, released, rtol=1e-6)
        assert chosen.alpha_ == float(data[out + "chosen_lambda"])
        for alpha, name in (
            (chosen.alpha_, "test_logits"), (0.01, "test_logits_lambda0.01"), (1.0, "test_logits_lambda1"),
            (100.0, "test_logits_lambda100"),
        ):  # fmt: skip
            streamed = head([alpha])
            for s in range(t + 1):
                streamed.partial_fit(data[f"input.task{s}.x"], data[f"input.task{s}.y"], classes=range(n_classes))
            logits = streamed.logits(data["input.test.x"])
            np.testing.assert_allclose(logits[:, :n_seen], data[out + name], rtol=1e-7, atol=1e-9)
            assert np.isneginf(logits[:, n_seen:]).all()


def test_without_projection_it_is_ridge():
    X, y = load_wine(return_X_y=True)
    X = X / X.std(axis=0)
    peer = Ridge(3.0, fit_intercept=False).fit(X[::2], np.eye(3)[y[::2]])
    found = RandomProjection(0, [3.0]).fit(X[::2], y[::2])
    np.testing.assert_allclose(found.logits(X[1::2]), peer.predict(X[1::2]), rtol=1e-9, atol=1e-12)


def test_a_large_penalty_gives_the_direction_of_the_class_sums():
    X, y = load_wine(return_X_y=True)
    found = RandomProjection(0, [1e14]).fit(X, y).coef_ * 1e14
    np.testing.assert_allclose(found, [X[y == k].sum(axis=0) for k in range(3)], rtol=1e-5)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_streaming_equals_fitting_at_once_for_one_penalty(order):
    X, y = load_wine(return_X_y=True)
    X = X / X.std(axis=0)
    joint, head = RandomProjection(30, [1.0]).fit(X, y), RandomProjection(30, [1.0])
    for k in order:
        head.partial_fit(X[y == k], y[y == k], classes=[0, 1, 2])
    np.testing.assert_allclose(head.logits(X), joint.logits(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("n_penalties", [1, REDUCED_FROM])
def test_few_and_many_penalties_are_solved_as_by_their_own_equations(scale, n_penalties):
    rng = np.random.default_rng(0)
    X, codes = scale * rng.normal(size=(400, 130)), np.arange(400) % 3
    sums, every = NormalEquations(130, 3).update(X, codes), 10.0 ** np.arange(-8, 10)
    for alphas in every.reshape(-1, n_penalties):
        for alpha, found in zip(alphas, sums.solutions(alphas), strict=True):
            expected = np.linalg.solve(X.T @ X + alpha * np.eye(130), X.T @ np.eye(3)[codes])
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12 * np.abs(expected).max())


def test_the_projection_finds_what_no_linear_rule_finds():
    X, y = load_digits(return_X_y=True)
    scores = [RandomProjection(width).fit(X[:900] / 16, y[:900]).score(X[900:] / 16, y[900:]) for width in (0, 500)]
    assert scores[1] > scores[0] + 0.03
    assert scores[1] > NearestClassMean().fit(X[:900], y[:900]).score(X[900:], y[900:])


def test_more_columns_than_rows_choose_among_penalties_that_can_be_factorised():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 5)), np.arange(30) % 3
    head = RandomProjection(200).fit(X, y)
    assert np.isfinite(head.logits(X)).all()
    assert {one["alpha"] for one in head.selection_["searched"]} <= set(head.alphas)


def test_parameters_outside_their_range_are_refused():
    for changes, message in (({"n_projected": -1}, "n_projected is -1"), ({"alphas": [0.0]}, r"alphas is \[0.0\]")):
        with pytest.raises(InputError, match=message):
            RandomProjection(**changes).fit([[0.0], [1.0]], [0, 1])


def test_nan_is_refused_in_the_stream():
    with pytest.raises(InputError, match="NaN"):
        RandomProjection(5).partial_fit([[np.nan], [1.0]], [0, 1], classes=[0, 1])
