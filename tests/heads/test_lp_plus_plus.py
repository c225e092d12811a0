import numpy as np
import pytest
import torch
from few_shots import case, excess_error, few_shots
from oracles import files_of
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from probe.core.errors import InputError
from probe.heads.lp_plus_plus import LPPlusPlus, beginning, cross_entropy, pulled
from probe.heads.shared.text_head import unit
from probe.heads.zero_shot import ZeroShot


def contract_case():
    return case() | {"max_iter": 30}


def oracle(path):
    """Rows of unit length, labels, texts, all values in double."""
    data = {name: v.double() if v.is_floating_point() else v for name, v in load_file(path).items()}
    F = data["input.train_features"]
    return F / F.norm(dim=1, keepdim=True), data["input.train_labels"], data["input.text_weights"], data


@pytest.mark.parametrize("path", files_of("lp_plus_plus"), ids=lambda path: path and path.stem)
def test_beginning_loss_logits_and_gradients_equal_the_released_ones(path):
    F, labels, T, data = oracle(path)
    W0, _, alpha0 = beginning(F, labels, T)
    torch.testing.assert_close(W0, data["output.init_W"], atol=1e-6, rtol=0)
    torch.testing.assert_close(alpha0, data["output.init_alpha"].expand(len(T)), atol=1e-4, rtol=0)
    given = [data[f"given.{name}"].clone().requires_grad_() for name in ("W", "bias", "alpha")]
    W, b, alpha = given
    loss = cross_entropy(F, labels, T, (W, b, alpha.flatten()))
    loss.backward()
    torch.testing.assert_close(loss, data["output.given.loss"], atol=1e-5, rtol=0)
    torch.testing.assert_close(F @ (W + alpha.T * T).T + b, data["output.given.logits"], atol=1e-5, rtol=0)
    for name, value in zip(("W", "bias", "alpha"), given, strict=True):
        torch.testing.assert_close(value.grad, data[f"grad.given.{name}"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("path", files_of("lp_plus_plus"), ids=lambda path: path and path.stem)
def test_without_a_pull_300_passes_are_never_above_the_released_steps(path):
    F, labels, T, data = oracle(path)
    with safe_open(path, "pt") as file:
        assert int(file.metadata()["train_epoch"]) <= 300
    head = LPPlusPlus(class_features=T.numpy(), strengths=[0.0], max_iter=300)
    head.fit(data["input.train_features"].numpy(), labels.numpy())
    theirs = cross_entropy(
        F, labels, T, (data["output.final_W"], data["output.final_bias"], data["output.final_alpha"].flatten())
    )
    assert head.losses_[0] <= min(theirs.item(), data["output.losses"].min().item())


def test_without_a_pull_it_is_logistic_regression_without_a_penalty():
    texts, (X, y), _, _ = few_shots(shots=40, noise=1.5)
    head = LPPlusPlus(class_features=texts, strengths=[0.0], max_iter=2000).fit(X, y)
    theirs = LogisticRegression(C=1e8, max_iter=5000, tol=1e-8).fit(unit(X), y)
    assert abs(np.log(theirs.predict_proba(unit(X))[np.arange(len(y)), y]).mean() + head.losses_[0]) < 1e-4


def test_a_strong_pull_leaves_it_at_the_beginning():
    texts, (X, y), _, (X_test, _) = few_shots()
    head = LPPlusPlus(class_features=texts, strengths=[1e9]).fit(X, y)
    sums = np.stack([unit(X)[y == k].sum(axis=0) for k in range(5)])
    cosines = [(unit(X)[y == k] @ unit(texts)[k]).mean() for k in range(5)]
    expected = unit(X_test) @ (sums + 250 * np.mean(cosines) * unit(texts)).T + head.intercept_
    np.testing.assert_allclose(head.logits(X_test), expected, atol=1e-5)


def test_the_gradient_at_the_solution_vanishes():
    texts, (X, y), _, _ = few_shots()
    head = LPPlusPlus(class_features=texts, strengths=[0.01], max_iter=1000).fit(X, y)
    F, T, labels = torch.from_numpy(unit(X)), torch.from_numpy(unit(texts)), torch.from_numpy(y)
    start = beginning(F, labels, T)
    W = (torch.from_numpy(head.coef_ - head.alpha_[:, None] * unit(texts))).requires_grad_()
    b, alpha = (torch.from_numpy(a).requires_grad_() for a in (head.intercept_, head.alpha_))
    pull = (W - start[0]).square().sum() + (alpha - start[2]).square().sum()
    (cross_entropy(F, labels, T, (W, b, alpha)) + 0.005 * pull).backward()
    assert max(float(value.grad.abs().max()) for value in (W, b, alpha)) < 1e-4


def test_is_above_zero_shot_and_chooses_the_strength_on_validation_rows():
    texts, (X, y), validation, (X_test, y_test) = few_shots()
    head = LPPlusPlus(class_features=texts).fit(X, y, validation=validation)
    assert head.score(X_test, y_test) > ZeroShot(class_features=texts).fit(X, y).score(X_test, y_test) + 0.05
    scores = {c["strength"]: c["score"] for c in head.selection_["searched"]}
    assert scores[head.strength_] == max(scores.values())
    again = LPPlusPlus(class_features=texts, strengths=[head.strength_], max_iter=1000).fit(X, y)
    assert (again.predict(X_test) == head.predict(X_test)).mean() > 0.98


def test_classes_may_have_different_numbers_of_rows_and_one_row_each_leaves_nothing_to_choose_on():
    texts, (X, y), _, (X_test, y_test) = few_shots()
    uneven = np.flatnonzero((y > 0) | (np.arange(len(y)) < 5))
    assert LPPlusPlus(class_features=texts).fit(X[uneven], y[uneven]).score(X_test, y_test) > 0.5
    single = LPPlusPlus(class_features=texts).fit(X[:5], y[:5])
    assert not hasattr(single, "selection_")
    assert single.strength_ == 0.001


def test_strengths_that_are_none_are_refused():
    texts, (X, y), _, _ = few_shots()
    with pytest.raises(InputError, match=r"strengths is \[-1\], expected numbers from 0"):
        LPPlusPlus(class_features=texts, strengths=[-1]).fit(X, y)


def test_is_near_the_bayes_error_of_gaussians_whose_means_the_texts_say():
    in_standard_errors, in_points = excess_error(lambda texts: LPPlusPlus(class_features=texts))
    assert in_standard_errors > -4
    assert in_points < 2.5


def test_gradients_of_the_pulled_objective_are_those_of_autograd():
    random = torch.Generator().manual_seed(0)
    F, T, labels = torch.randn(30, 6, generator=random).double(), torch.eye(4, 6).double(), torch.arange(30) % 4
    weights, start = ([torch.randn(*size, generator=random).double() for size in ((4, 6), (4,), (4,))] for _ in "ab")
    found, slopes = pulled(F, labels, T, tuple(weights), tuple(start), 0.3)
    leaves = tuple(part.requires_grad_() for part in weights)
    pull = (leaves[0] - start[0]).square().sum() + (leaves[2] - start[2]).square().sum()
    value = cross_entropy(F, labels, T, leaves) + 0.3 / 2 * pull
    torch.testing.assert_close(found, value.detach())
    torch.testing.assert_close(slopes, torch.autograd.grad(value, leaves))
