import numpy as np
import pytest
from known_bayes import correlated, curved, excess_in_standard_errors
from sklearn.datasets import load_iris

from probe.core.errors import InputError
from probe.heads.linear import LinearProbe
from probe.heads.mlp import MLP
from probe.heads.shared.head import Head
from probe.heads.shared.standardized import statistics


def contract_case():
    return {"widths": (8,), "learning_rates": (0.1,), "epochs": 12, "batch_size": 64}


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`."""
    return {"widths": [8], "learning_rates": [0.03], "epochs": 15, "batch_size": 64}


def coupled_columns():
    """All columns share the hidden layer."""


def rings(n=600, seed=0):
    """Two classes that no line tells apart: near the middle, and around it."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3)).astype(np.float32)
    return X, (np.linalg.norm(X[:, :2], axis=1) > 1.18).astype(int)


SMALL = {"widths": [4, 32], "learning_rates": [0.003, 0.03], "epochs": 15, "batch_size": 50}


@pytest.fixture(scope="module")
def fitted():
    X, y = rings()
    return MLP(**SMALL).fit(X[:400], y[:400], validation=(X[400:], y[400:]))


def test_learns_what_features_say_only_together(fitted):
    X, y = rings(2000, seed=1)
    assert LinearProbe(Cs=3).fit(*rings()).score(X, y) < 0.62
    assert fitted.score(X, y) > 0.93


@pytest.mark.parametrize("width", [4, 32])
def test_each_candidate_ends_where_it_would_end_alone(width):
    X, y = rings()
    together = MLP(**SMALL | {"refit": False}).fit(X[:400], y[:400], validation=(X[400:], y[400:]))
    found = {(c["width"], c["learning_rate"]): c for c in together.selection_["searched"]}
    for rate in (0.003, 0.03):
        alone = MLP(**SMALL | {"widths": [width], "learning_rates": [rate], "patience": 15, "refit": False})
        alone.fit(X[:400], y[:400], validation=(X[400:], y[400:]))
        (one,) = alone.selection_["searched"]
        if found[width, rate]["epochs"] == one["epochs"]:
            assert found[width, rate]["score"] == pytest.approx(one["score"], abs=0.006)


def test_a_narrow_network_keeps_its_own_units_alone(tmp_path):
    X, y = rings()
    head = MLP(**SMALL | {"widths": [4, 6]}).fit(X[:400], y[:400], validation=(X[400:], y[400:]))
    assert head.hidden_weight_.shape == (head.width_, 3)
    assert head.output_weight_.shape == (2, head.width_)
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(Head.load(tmp_path / "head.safetensors").logits(X), head.logits(X))


def test_the_search_counts_every_width_rate_and_decay(fitted):
    searched = fitted.selection_["searched"]
    assert {(c["width"], c["learning_rate"], c["weight_decay"]) for c in searched} == {
        (width, rate, 0.01) for width in (4, 32) for rate in (0.003, 0.03)
    }
    assert max(c["score"] for c in searched) == next(
        c["score"] for c in searched if {k: c[k] for k in fitted.selection_["chosen"]} == fitted.selection_["chosen"]
    )


def test_shift_and_scale_of_the_features_move_no_prediction():
    X, y = rings()
    shifted = (X * [100, 0.01, 1] + [5, -3, 0]).astype(np.float32)
    plain, other = (MLP(**SMALL | {"widths": [8]}).fit(rows, y) for rows in (X, shifted))
    assert (plain.predict(X) == other.predict(shifted)).mean() > 0.97


def test_is_near_the_bayes_error_of_gaussians():
    head = MLP(widths=[32], learning_rates=[0.01], epochs=8, batch_size=256)
    assert excess_in_standard_errors(head, correlated(), n_train=4000, n_test=6000) < 4
    assert excess_in_standard_errors(head, *curved(), n_train=4000, n_test=6000) < 5


def test_statistics_are_those_of_all_rows_and_leave_what_never_varies():
    X = np.random.default_rng(0).normal(1000, 2, (50, 3))
    X[:, 1] = 1000.1
    mean, deviation = statistics(X)
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation, [X[:, 0].std(), 1, X[:, 2].std()], rtol=1e-6)


def test_few_rows_are_seen_in_more_than_one_step_an_epoch():
    X, y = load_iris(return_X_y=True)
    head = MLP(widths=[16], learning_rates=[0.01]).fit(X[::2], y[::2])
    assert head.score(X[1::2], y[1::2]) > 0.92
    assert [head._rows_per_step(n) for n in (5, 75, 5000)] == [1, 7, 128]


def test_poisoned_test_rows_change_no_fit(fitted):
    before = fitted.hidden_weight_.copy()
    fitted.predict(np.full((3, 3), 1e6, dtype=np.float32))
    np.testing.assert_array_equal(fitted.hidden_weight_, before)


def test_widths_that_are_none_are_refused():
    with pytest.raises(InputError, match=r"widths is \[0\], expected whole numbers from 1"):
        MLP(widths=[0]).fit(*rings())
