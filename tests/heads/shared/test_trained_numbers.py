"""Numbers in the heads that are trained by mini-batches: what all of them promise."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import r2_score

from probe.core.errors import InputError
from probe.heads.attentive import Attentive
from probe.heads.mlp import MLP
from probe.heads.moment_probing import MomentProbing
from probe.heads.shared.base import AnyHead
from probe.heads.shared.trained_numbers import TrainedNumbers

HEADS = {
    "mlp": MLP([16], [0.05], epochs=8, batch_size=50),
    "attentive": Attentive(options={"n_queries": 1}, learning_rates=[0.1], weight_decays=[0.001], epochs=8,
                           batch_size=50),
    "moment_probing": MomentProbing(hidden_width=14, n_groups=2, epochs=[8], learning_rates=[0.05], batch_size=50,
                                    warmup_epochs=1),
}  # fmt: skip
every_head = pytest.mark.parametrize("name", HEADS)


def made(name, **parameters):
    return clone(HEADS[name]).set_params(**parameters).for_target("number")


def rows(name, n=140, columns=1, seed=0):
    """Rows as a head reads them, and numbers that follow their mean token."""
    rng = np.random.default_rng(seed)
    tokens = (rng.standard_normal((n, 1, 8)) + 0.5 * rng.standard_normal((n, 5, 8))).astype(np.float32)
    pooled = tokens.mean(axis=1)
    y = 10 + 3 * (pooled[:, 0] - pooled[:, 1]) + 0.3 * rng.standard_normal(n)
    y = y if columns == 1 else np.stack([y, 1000 * pooled[:, 2]], axis=1)
    return {"mlp": pooled, "attentive": tokens, "moment_probing": {"pooled": pooled, "tokens": tokens}}[name], y


def part(X, chosen):
    return {kind: array[chosen] for kind, array in X.items()} if isinstance(X, dict) else X[chosen]


def filled(X, value):
    return {kind: np.full_like(a, value) for kind, a in X.items()} if isinstance(X, dict) else np.full_like(X, value)


@every_head
@pytest.mark.parametrize("columns", [1, 2])
def test_learns_numbers_of_columns_in_units_of_their_own(name, columns):
    X, y = rows(name, columns=columns)
    head = made(name).fit(part(X, slice(100)), y[:100])
    found = head.predict(part(X, slice(100, None)))
    assert isinstance(head, TrainedNumbers)
    assert found.shape == y[100:].shape
    assert r2_score(y[100:], found, multioutput="raw_values").min() > 0.3


@every_head
def test_scale_and_unit_of_the_numbers_scale_predictions_and_leave_r2(name):
    X, y = rows(name)
    train, held, test = slice(80), slice(80, 100), slice(100, None)
    found = {}
    for scale, shift in ((1, 0), (1e-6, 100)):
        other = scale * y + shift
        head = made(name, learning_rates=[0.003, 0.05])
        head.fit(part(X, train), other[train], validation=(part(X, held), other[held]))
        found[scale] = (head.predict(part(X, test)) - shift) / scale, head.selection_
        assert r2_score(other[test], head.predict(part(X, test))) == pytest.approx(
            r2_score(y[test], found[1][0]), abs=1e-3
        )
    for predicted, selection in found.values():
        np.testing.assert_allclose(predicted, found[1][0], atol=1e-2)
        assert selection["chosen"] == found[1][1]["chosen"]


@every_head
def test_candidates_are_judged_by_squared_error_in_units_of_the_variance(name):
    X, y = rows(name, columns=2)
    train, held = slice(100), slice(100, None)
    head = made(name, learning_rates=[1e-6, 0.05], refit=False)
    head.fit(part(X, train), y[train], validation=(part(X, held), y[held]))
    squares = (y[held] - head.predict(part(X, held))) ** 2
    scores = {one["learning_rate"]: one["score"] for one in head.selection_["searched"]}
    assert head.selection_["on"] == "validation"
    assert head.selection_["chosen"]["learning_rate"] == 0.05
    assert scores[0.05] == pytest.approx(-(squares.mean(axis=0) / y[train].var(axis=0)).mean(), rel=1e-3)
    # What learns nothing has the error of the mean, which is the variance.
    assert name != "mlp" or scores[1e-6] == pytest.approx(-1, abs=0.3)


@every_head
def test_poisoned_test_rows_change_no_fit(name):
    X, y = rows(name)
    head, again = made(name).fit(part(X, slice(100)), y[:100]), made(name).fit(part(X, slice(100)), y[:100])
    head.predict(filled(part(X, slice(100, None)), 1e6))
    np.testing.assert_array_equal(head.predict(X), again.predict(X))


@every_head
def test_features_that_never_vary_give_the_mean(name):
    X, y = rows(name)
    head = made(name).fit(filled(X, 3.0), y)
    assert np.abs(head.predict(filled(X, 3.0)) - y.mean()).max() < 0.3 * y.std()


@every_head
@pytest.mark.parametrize("columns", [1, 2])
def test_a_saved_head_predicts_the_same_bits(name, columns, tmp_path):
    X, y = rows(name, columns=columns)
    head = made(name).set_params(epochs=1 if name != "moment_probing" else [1]).fit(X, y)
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(AnyHead.load(tmp_path / "head.safetensors").predict(X), head.predict(X))


@pytest.mark.parametrize("name", ["attentive", "moment_probing"])
def test_what_stands_under_the_mask_of_tokens_changes_no_number(name):
    X, y = rows(name)
    tokens = X["tokens"] if name == "moment_probing" else X
    mask = np.arange(5) < np.random.default_rng(1).integers(2, 6, (len(y), 1))
    found = []
    for value in (0.0, 9.0):
        padded = {"tokens": np.where(mask[..., None], tokens, np.float32(value)), "mask": mask}
        padded |= {"pooled": X["pooled"]} if name == "moment_probing" else {}
        found.append(made(name).fit(part(padded, slice(100)), y[:100]).predict(padded))
    np.testing.assert_array_equal(*found)
    assert r2_score(y[100:], found[0][100:]) > 0.3


@every_head
@pytest.mark.parametrize("n", [2, 3])
def test_two_rows_and_three_are_enough(name, n):
    X, y = rows(name, n)
    assert np.isfinite(made(name, learning_rates=[0.003, 0.03]).fit(X, y).predict(X)).all()


def test_candidates_far_behind_are_dropped_early_by_their_squared_errors():
    X, y = rows("moment_probing")
    head = made("moment_probing", learning_rates=[1e-6, 0.05], early_drop=True).fit(X, y, validation=(X, y))
    dropped = {one["learning_rate"]: one.get("dropped_after") for one in head.selection_["searched"]}
    assert dropped[1e-6] is not None
    assert dropped[0.05] is None


def test_label_smoothing_is_for_classes_and_the_remedy_works():
    X, y = rows("moment_probing")
    head = made("moment_probing", label_smoothing=0.1, epochs=[1])
    with pytest.raises(InputError, match=r"have no classes to spread over: set head\.label_smoothing=0"):
        head.fit(X, y)
    assert len(head.set_params(label_smoothing=0).fit(X, y).predict(X)) == len(y)


def test_validation_numbers_of_other_columns_are_refused():
    X, y = rows("mlp")
    with pytest.raises(InputError, match="expected 1 numbers per row: give as many as training rows have"):
        made("mlp").fit(X, y, validation=(X, np.stack([y, y], axis=1)))


def test_a_training_that_diverges_is_told():
    X, y = rows("moment_probing")
    with pytest.raises(InputError, match="diverged at learning rate"):
        made("moment_probing", learning_rates=[1e30]).fit(X, y)
