"""What ensembles promise, whatever their members are."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from probe.core.errors import InputError
from probe.experiment.ensembles.combining import (
    KINDS,
    TOLERANCE,
    disagreement,
    fit_weights,
    log_probabilities,
    mean,
    median,
    vote,
    weighted,
)

UNWEIGHTED = ["mean", "median", "vote"]


def members(n_members=5, n_rows=200, n_classes=4, seed=0, skill=2.0):
    """Log-probabilities (M, N, K) of members that know a little, and labels (N,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n_rows)
    logits = rng.normal(size=(n_members, n_rows, n_classes)) * rng.uniform(0.5, 2, (n_members, 1, 1))
    logits[:, np.arange(n_rows), labels] += skill * rng.uniform(0, 1, (n_members, 1))
    return log_softmax(logits, axis=2), labels


def log_loss(log_p, labels):
    return -log_p[..., np.arange(len(labels)), labels].mean(axis=-1)


def combined(kind, log_p):
    return KINDS[kind](log_p, *([np.full(len(log_p), 1 / len(log_p))] if kind == "weighted" else []))


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_sum_to_one(kind):
    log_p, _ = members()
    np.testing.assert_allclose(np.exp(combined(kind, log_p)).sum(axis=1), 1, rtol=1e-12)


def test_mean_and_median_and_vote_are_those_of_their_definition():
    log_p, _ = members()
    p = np.exp(log_p)
    np.testing.assert_allclose(np.exp(mean(log_p)), p.mean(axis=0), rtol=1e-12)
    middle = np.median(p, axis=0)
    np.testing.assert_allclose(np.exp(median(log_p)), middle / middle.sum(axis=1, keepdims=True), rtol=1e-12)
    votes = np.array([np.bincount(row, minlength=4) for row in p.argmax(axis=2).T])
    np.testing.assert_allclose(np.exp(vote(log_p)), (votes + p.mean(axis=0)) / 6, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_loses_at_most_what_its_members_lose_on_average(seed):
    log_p, labels = members(seed=seed)
    assert log_loss(mean(log_p), labels) <= log_loss(log_p, labels).mean()


def test_brier_of_the_mean_is_that_of_the_members_less_their_spread():
    log_p, labels = members()
    p, one_hot = np.exp(log_p), np.eye(4)[labels]
    brier = ((p - one_hot) ** 2).sum(axis=2).mean()
    of_mean = ((np.exp(mean(log_p)) - one_hot) ** 2).sum(axis=1).mean()
    spread = ((p - p.mean(axis=0)) ** 2).sum(axis=2).mean()
    assert brier - of_mean == pytest.approx(spread, abs=1e-12)


@pytest.mark.parametrize("kind", ["mean", "median", "weighted"])
def test_copies_of_one_member_are_this_member(kind):
    log_p, _ = members(1)
    np.testing.assert_allclose(combined(kind, np.repeat(log_p, 4, axis=0)), log_p[0], rtol=1e-12, atol=1e-12)


def test_a_vote_of_copies_predicts_what_the_member_does():
    log_p, _ = members(1)
    np.testing.assert_array_equal(vote(np.repeat(log_p, 4, axis=0)).argmax(axis=1), log_p[0].argmax(axis=1))


@pytest.mark.parametrize("kind", UNWEIGHTED)
def test_the_order_of_members_is_irrelevant(kind):
    log_p, _ = members()
    np.testing.assert_allclose(combined(kind, log_p[::-1]), combined(kind, log_p), rtol=1e-12, atol=1e-13)


def test_the_order_of_members_permutes_the_weights():
    log_p, labels = members()
    of_label = log_p[:, np.arange(len(labels)), labels]
    np.testing.assert_allclose(fit_weights(of_label[::-1]), fit_weights(of_label)[::-1], atol=1e-9)


def test_all_weight_on_one_member_is_this_member():
    log_p, _ = members()
    np.testing.assert_allclose(weighted(log_p, np.eye(5)[2]), log_p[2], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_those_of_a_general_solver_and_never_lose_to_a_member(seed):
    log_p, labels = members(seed=seed)
    of_label = log_p[:, np.arange(len(labels)), labels]
    weights = fit_weights(of_label)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    found = log_loss(weighted(log_p, weights), labels)
    solved = minimize(
        lambda w: -np.log(w @ np.exp(of_label)).mean(), np.full(5, 0.2), bounds=[(0, 1)] * 5, method="SLSQP",
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-12},
    )  # fmt: skip
    assert found <= solved.fun + TOLERANCE
    assert found <= log_loss(log_p, labels).min() + TOLERANCE


def test_a_member_that_knows_nothing_gets_no_weight():
    log_p, labels = members(2, 2000, skill=4.0)
    nothing = np.random.default_rng(1).normal(size=log_p[:1].shape) * 8
    log_p = np.concatenate([log_p, log_softmax(nothing, axis=2)])
    assert fit_weights(log_p[:, np.arange(len(labels)), labels])[2] < 0.01


@pytest.mark.parametrize("n_garbage", [1, 2])
def test_a_median_moves_no_further_than_to_a_sound_member(n_garbage):
    log_p, _ = members(2 * n_garbage)
    sound = np.repeat(log_p[:1], 2 * n_garbage, axis=0)
    garbage = np.full((n_garbage, *log_p.shape[1:]), -np.inf)
    garbage[:, :, 3] = 0
    found = median(np.concatenate([sound, garbage]))
    np.testing.assert_allclose(found, log_p[0], rtol=1e-10)


def test_the_median_of_two_is_their_mean():
    log_p, _ = members(2)
    np.testing.assert_allclose(median(log_p), mean(log_p), rtol=1e-10, atol=1e-12)


def test_a_median_that_leaves_no_class_is_the_mean():
    log_p = np.where(np.eye(3)[:, None, :] > 0, 0.0, -np.inf)
    np.testing.assert_allclose(np.exp(median(log_p)), np.full((1, 3), 1 / 3))


def test_a_majority_wins_whatever_the_mean_says_and_the_mean_decides_between_equal_votes():
    p = np.array([[[0.51, 0.49, 0]], [[0.51, 0.49, 0]], [[0, 1, 0]]])
    with np.errstate(divide="ignore"):
        log_p = np.log(p)
    assert mean(log_p).argmax() == 1
    assert vote(log_p).argmax() == 0
    assert vote(log_p[1:]).argmax() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_no_member_knows_stays_impossible_and_others_do_not(kind):
    log_p, _ = members()
    log_p[:, :, 0] = -np.inf
    log_p[1, :, 1] = -np.inf
    log_p = log_softmax(log_p, axis=2)
    found = combined(kind, log_p)
    assert np.isneginf(found[:, 0]).all()
    assert np.isfinite(found[:, 1:]).all()


def test_probabilities_beyond_floating_point_keep_their_order():
    log_p = log_probabilities(np.array([[0.0, -900.0, -800.0]]))
    found = mean(np.stack([log_p, log_p]))
    assert found[0, 0] > found[0, 2] > found[0, 1] > -901


def test_a_temperature_divides_the_logits():
    logits = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(np.exp(log_probabilities(logits, 2.0)), softmax(logits / 2, axis=1))


def test_members_that_agree_never_disagree():
    log_p, _ = members(1)
    assert disagreement(np.repeat(log_p, 3, axis=0)) == 0
    opposite = np.stack([log_p[0], log_p[0][:, ::-1]])
    assert disagreement(opposite) == 1


def test_rows_that_no_member_explains_are_left_out_and_none_at_all_are_refused():
    log_p, labels = members()
    of_label = log_p[:, np.arange(len(labels)), labels]
    more = np.concatenate([of_label, np.full((5, 7), -np.inf)], axis=1)
    np.testing.assert_allclose(fit_weights(more), fit_weights(of_label))
    with pytest.raises(InputError, match="none of the 7 validation rows has a class that a member holds possible"):
        fit_weights(more[:, -7:])
