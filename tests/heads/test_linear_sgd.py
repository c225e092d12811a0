import warnings

import numpy as np
import pytest
import torch
from known_bayes import correlated, curved, excess_in_standard_errors
from oracles import files_of
from safetensors.torch import load_file
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.heads.linear_sgd import LinearSGD, LinearSGDNumbers
from probe.heads.ols import OrdinaryLeastSquares
from probe.heads.shared import spherical
from probe.heads.shared.linear_sgd_solver import SOLVERS


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`."""
    return {"scaling": "standard", "lrs": [0.01, 0.05], "epochs": 15}


def coupled_columns():
    """All columns have one learning rate, and random coefficients begin each."""


def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16 - 0.3).astype(np.float32), y


@parametrize_with_checks([LinearSGD(epochs=30)])
def test_is_a_scikit_learn_classifier(estimator, check):
    check(estimator)


def test_logits_of_doubles_are_doubles():
    X, y = digits()
    head = LinearSGD(epochs=1).fit(X, y)
    wide = X.astype(np.float64) @ head.coef_.T.astype(np.float64) + head.intercept_
    assert head.logits(X).dtype == head.logits(X.astype(np.float16)).dtype == np.float32
    np.testing.assert_array_equal(head.logits(X.astype(np.float64)), wide)


@pytest.mark.parametrize("scaling", ["none", "standard", "l2"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_each_learning_rate_ends_where_it_ends_alone(solver, scaling):
    X, y = digits()
    lrs = (3.0, 10.0, 30.0) if solver == "lars" else (0.003, 0.01, 0.03)
    parameters = {"solver": solver, "scaling": scaling, "weight_decay": 0.01, "epochs": 2, "batch_size": 100}
    together = LinearSGD(lrs=lrs, refit=False, **parameters).fit(X[:900], y[:900], validation=(X[900:], y[900:]))
    for i, lr in enumerate(lrs):
        alone = LinearSGD(lrs=[lr], **parameters).fit(X[:900], y[:900])
        np.testing.assert_allclose(together.coefs_[i], alone.coef_, atol=1e-4 * np.abs(alone.coef_).max())
        np.testing.assert_allclose(together.intercepts_[i], alone.intercept_, rtol=1e-4, atol=1e-4)
    assert np.abs(together.coefs_[0] - together.coefs_[2]).max() > 1e-3


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
def test_takes_the_steps_of_the_optimizer_on_autograd_gradients(solver):
    X, y = digits()
    head = LinearSGD(solver=solver, lrs=[0.05], weight_decay=0.1, epochs=3, batch_size=500).fit(X, y)
    W = (0.01 * torch.randn(10, 64, generator=torch.Generator().manual_seed(0))).requires_grad_()
    b = torch.zeros(10, requires_grad=True)
    groups = [{"params": [W], "weight_decay": 0.1}, {"params": [b], "weight_decay": 0.0}]
    optimizer = (
        torch.optim.SGD(groups, lr=0.05, momentum=0.9) if solver == "sgd" else torch.optim.AdamW(groups, lr=0.05)
    )
    random, n_steps, step = np.random.default_rng(0), 12, 0
    for _ in range(3):
        order = random.permutation(len(X))
        for start in range(0, len(X), 500):
            rows = order[start : start + 500]
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * 0.5 * (1 + np.cos(np.pi * step / n_steps))
            optimizer.zero_grad()
            logits = torch.from_numpy(X[rows]) @ W.T + b
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(y[rows])).backward()
            optimizer.step()
            step += 1
    np.testing.assert_allclose(head.coef_, W.detach(), atol=1e-4)
    np.testing.assert_allclose(head.intercept_, b.detach(), atol=1e-4)


@pytest.mark.parametrize("scaling", ["standard", "l2"])
def test_scaling_is_folded_into_the_head(scaling):
    X, y = digits()
    X = X * np.geomspace(1e-2, 1e2, 64, dtype=np.float32) + 3
    X[:, 5] = 7  # a constant feature is left alone
    scaled = StandardScaler().fit_transform(X) if scaling == "standard" else X / np.linalg.norm(X, axis=1)[:, None]
    head = LinearSGD(lrs=[0.01, 0.3], scaling=scaling, epochs=3, refit=False)
    plain = clone(head).set_params(scaling="none").fit(scaled, y, validation=(scaled, y))
    head.fit(X, y, validation=(X, y))
    np.testing.assert_allclose(head.scores_, plain.scores_, atol=2e-3)  # rows between two classes may fall either way
    spread = np.ptp(plain.logits(scaled))
    np.testing.assert_allclose(head.logits(X), plain.logits(scaled), atol=1e-4 * spread)
    if scaling == "standard":
        np.testing.assert_allclose(head.logits(X), X @ head.coef_.T + head.intercept_, atol=1e-6 * spread)


def test_long_training_predicts_like_logistic_regression():
    X, y = digits()
    head = LinearSGD(lrs=[0.5], weight_decay=1e-4, epochs=40).fit(X, y)
    exact = LogisticRegression(C=1 / (1e-4 * len(X)), max_iter=1000).fit(X, y)
    assert np.mean(head.predict(X) == exact.predict(X)) > 0.98


def test_shared_covariance_reaches_bayes_and_different_ones_do_not():
    head = LinearSGD(lrs=[0.1], scaling="standard", epochs=3)
    assert abs(excess_in_standard_errors(head, correlated())) < 3
    assert excess_in_standard_errors(head, *curved()) > 10


@pytest.mark.parametrize(("solver", "lr"), [("sgd", 0.5), ("adamw", 0.02), ("lamb", 0.1), ("lars", 20.0)])
def test_every_solver_learns(solver, lr):
    X, y = digits()
    head = LinearSGD(solver=solver, lrs=[lr], epochs=20).fit(X[:1200], y[:1200])
    assert head.score(X[1200:], y[1200:]) > 0.9


def test_the_learning_rate_is_chosen_on_validation_and_trained_again_on_both():
    X, y = digits()
    head = LinearSGD(lrs=[1e-6, 0.1], epochs=3).fit(X[:900], y[:900], validation=(X[900:], y[900:]))
    assert head.lr_ == 0.1
    assert head.selection_["chosen"] == {"lr": 0.1}
    assert head.scores_[1] > head.scores_[0]
    both = LinearSGD(lrs=[0.1], epochs=3).fit(X, y)
    np.testing.assert_allclose(head.coef_, both.coef_, atol=1e-6)


def test_a_float16_memmap_gives_what_its_rows_in_memory_give(tmp_path):
    X, y = digits()
    np.save(tmp_path / "X.npy", X.astype(np.float16))
    lazy = np.load(tmp_path / "X.npy", mmap_mode="r")
    rows = np.arange(0, 1000)
    plain = LinearSGD(epochs=2).fit(np.float32(lazy[:1000]), y[:1000])
    np.testing.assert_array_equal(LinearSGD(epochs=2).fit(RowSubset(lazy, rows), y[:1000]).coef_, plain.coef_)


def test_impossible_parameters_are_refused_together():
    with pytest.raises(InputError, match=r"solver is 'adam', expected one of sgd, .*; lrs is \[0\]"):
        LinearSGD(solver="adam", lrs=[0]).fit(*digits())
    with pytest.raises(InputError, match="scaling is 'minmax', expected one of none, standard, l2"):
        LinearSGD(scaling="minmax").fit(*digits())
    with pytest.raises(InputError, match="epochs is 0"):
        LinearSGD(epochs=0).fit(*digits())


def settings(data):
    """The cases of a reference file: name there, loss, options."""
    found = [("log_softmax", "softmax", {}), ("taylor_softmax", "taylor", {})]
    for name, value in data.items():
        case = name.split(".")[1] if name.startswith("hyper.") else ""
        if case.startswith("z_loss"):
            found.append((case, "z", {"a": float(value[0]), "b": float(value[1])}))
        elif case.startswith("spherical"):
            found.append((case, "spherical", {"eps": float(value)}))
    return found


@pytest.mark.parametrize("path", files_of("linear_sgd"), ids=lambda path: path and path.stem)
def test_losses_and_gradients_of_the_spherical_family_equal_the_released_definition(path):
    data = load_file(path)
    logits, labels = data["input.logits"].double(), data["input.labels"]
    cases = settings(data)
    assert {loss for _, loss, _ in cases} == set(spherical.LOSSES)
    for name, loss, options in cases:
        found = spherical.values(loss, logits, labels, **options)
        torch.testing.assert_close(found, data[f"output.{name}.per_row"], rtol=0, atol=1e-10)
        slopes = spherical.gradient(loss, logits.T[None], labels, **options)[0].T / len(labels)
        torch.testing.assert_close(slopes, data[f"grad.{name}.logits_of_mean"], rtol=0, atol=1e-10)
        if loss in ("spherical", "taylor"):
            shares = spherical.log_shares(loss, logits, **options).softmax(1)
            torch.testing.assert_close(shares, data[f"output.{name}.probabilities"], rtol=0, atol=1e-10)


def test_z_loss_does_not_change_with_shift_and_scale_of_the_logits():
    logits = torch.randn(20, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 7
    plain, moved = (spherical.values("z", values, labels) for values in (logits, 3 * logits - 5))
    torch.testing.assert_close(plain, moved)
    slopes = spherical.gradient("z", logits.T[None], labels)[0]
    torch.testing.assert_close(slopes.sum(0), torch.zeros(20, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close((slopes * logits.T).sum(0), torch.zeros(20, dtype=torch.float64), atol=1e-12, rtol=0)
    assert torch.isfinite(spherical.gradient("z", torch.zeros(1, 7, 20), labels)).all()


@pytest.mark.parametrize("loss", ["z", "spherical", "taylor"])
def test_each_loss_of_the_spherical_family_learns(loss):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    head = LinearSGD(loss=loss, lrs=[0.1, 1.0], epochs=10).fit(X[::2], y[::2])
    assert head.score(X[1::2], y[1::2]) > 0.85
    assert head.log_probabilities == (loss != "z")


def test_z_loss_of_two_classes_and_unknown_losses_are_refused():
    X, y = np.eye(6), np.arange(6) % 2
    with pytest.raises(InputError, match="loss z of two classes takes two values and has no slope"):
        LinearSGD(loss="z").fit(X, y)
    with pytest.raises(InputError, match="loss is 'hinge', expected one of softmax, z, spherical, taylor"):
        LinearSGD(loss="hinge").fit(X, y)


def test_long_training_on_numbers_comes_to_least_squares():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    Y = 100 + X @ rng.normal(size=(5, 2)) * [1, 1000] + rng.normal(size=(400, 2))
    expected = OrdinaryLeastSquares().fit(X, Y).predict(X)
    for solver in ("sgd", "adamw"):
        head = (
            LinearSGD(solver, lrs=[0.05], scaling="standard", epochs=40, batch_size=100).for_target("number").fit(X, Y)
        )
        assert isinstance(head, LinearSGDNumbers)
        assert (np.abs(head.predict(X) - expected) / Y.std(axis=0)).max() < 0.05


def test_the_learning_rate_of_smallest_squared_error_wins_and_is_trained_on_both():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4)).astype(np.float32)
    y = X @ [1.0, 2, 3, 4] + rng.normal(size=300)
    head = (
        LinearSGD(lrs=[1e-5, 0.02], batch_size=50)
        .for_target("number")
        .fit(X[:200], y[:200], validation=(X[200:], y[200:]))
    )
    assert head.lr_ == 0.02
    assert head.scores_[0] < -0.7
    assert head.scores_[1] > -0.1
    alone = LinearSGD(lrs=[0.02], batch_size=50).for_target("number").fit(X, y)
    np.testing.assert_allclose(head.predict(X), alone.predict(X), atol=0.15)
    before = head.before_refit()
    errors = (y[200:] - before.predict(X[200:])) ** 2
    assert head.scores_[1] == pytest.approx(-errors.mean() / y[:200].var(), rel=1e-3)


def test_a_loss_of_classes_is_refused_for_numbers_and_the_remedy_works():
    head = LinearSGD(loss="spherical").for_target("number")
    X = np.eye(4)
    with pytest.raises(InputError, match=r"numbers to predict have the squared error: set head\.loss=softmax"):
        head.fit(X, np.arange(4.0))
    assert len(head.set_params(loss="softmax").fit(X, np.arange(4.0)).predict(X)) == 4


@pytest.mark.parametrize("solver", ["sgd", "adamw", "lars", "lamb"])
def test_features_too_small_for_every_learning_rate_are_told_and_the_remedy_works(solver):
    """Silent at scales where the head is at chance, the user would take the backbone for a bad one."""
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    for scale in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            head = LinearSGD(solver=solver).fit(X[::2] * scale, y[::2])
        told = any("too little for lrs=" in str(one.message) for one in said)
        assert told or head.score(X[1::2] * scale, y[1::2]) > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = LinearSGD(solver=solver, scaling="standard").fit(X[::2] * 1e-4, y[::2])
        assert head.score(X[1::2] * 1e-4, y[1::2]) > 0.75
        LinearSGD(solver=solver).fit(X[::2], y[::2])
