"""Wide outputs trained in factors: the same steps as the dense gradient's, at a cost that classes do not raise."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from probe.heads.linear_sgd import LinearSGD
from probe.heads.shared import factored, linear_sgd_solver
from probe.heads.shared.factored import FactoredOutput
from probe.heads.shared.spherical import LOSSES, coefficients, gradient

FAMILY = LOSSES[1:]


def drawn(n_classes=40, width=5, n=12, seed=0):
    """Coefficients, rows with a constant behind them, and their classes, some of them twice."""
    random = torch.Generator().manual_seed(seed)
    W = torch.randn(n_classes, width + 1, generator=random, dtype=torch.float64)
    rows = torch.randn(n, width, generator=random, dtype=torch.float64)
    targets = torch.randint(n_classes, (n,), generator=random)
    targets[1] = targets[0]
    return W, torch.cat([rows, torch.ones(n, 1, dtype=torch.float64)], 1), targets


def dense_step(W, rows, targets, loss, lr, decay):
    slopes = gradient(loss, (rows @ W.T).T[None], targets)[0]
    return W - lr * (slopes @ rows / len(rows) + decay * W)


@pytest.mark.parametrize("loss", FAMILY)
def test_the_slope_by_the_logits_follows_from_two_sums_and_the_own_logit(loss):
    W, rows, targets = drawn()
    logits = rows @ W.T
    own = logits.gather(1, targets[:, None])[:, 0]
    common, by_logit, by_own = coefficients(loss, own, logits.sum(1), logits.square().sum(1), logits.shape[1])
    found = common[:, None] + by_logit[:, None] * logits
    found[torch.arange(len(targets)), targets] += by_own
    torch.testing.assert_close(found, gradient(loss, logits.T[None], targets)[0].T, rtol=0, atol=1e-10)


@pytest.mark.parametrize("loss", FAMILY)
@pytest.mark.parametrize("worst", [1e4, 0.0], ids=["in factors", "multiplied out"])
def test_steps_are_those_of_the_dense_gradient(loss, worst, monkeypatch):
    monkeypatch.setattr(factored, "WORST", worst)
    W, _, _ = drawn()
    decay = torch.tensor([0.01] * 5 + [0.0], dtype=torch.float64)
    output = FactoredOutput(W, loss, decay)
    for step in range(25):
        _, rows, targets = drawn(seed=step)
        W = dense_step(W, rows, targets, loss, 0.3, decay)
        output.step(rows, targets, 0.3)
    torch.testing.assert_close(output.weights(), W, rtol=0, atol=1e-9)
    torch.testing.assert_close(output.squares, W.T @ W, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output.sums, W.sum(0), rtol=1e-9, atol=1e-9)


def test_a_step_that_leaves_nothing_of_a_direction_is_taken_as_well():
    W, rows, targets = (part if part.shape[0] == 40 else part[:1] for part in drawn())
    logits = rows @ W.T
    lr = float((logits.square().sum() + 0.1 * 40) / 2 / rows.square().sum())  # 1 - lr M has an eigenvalue 0
    output = FactoredOutput(W, "spherical", torch.zeros(6, dtype=torch.float64))
    output.step(rows, targets, lr)
    torch.testing.assert_close(output.weights(), dense_step(W, rows, targets, "spherical", lr, 0), atol=1e-9, rtol=0)


def test_the_cost_of_a_step_does_not_depend_on_the_number_of_classes():
    counts = []
    for n_classes in (50, 5000):
        W, _, _ = drawn(n_classes)
        output = FactoredOutput(W, "taylor", torch.zeros(6, dtype=torch.float64))
        _, rows, targets = drawn(50)
        with FlopCounterMode(display=False) as counter:
            output.step(rows, targets, 0.1)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("loss", FAMILY)
def test_the_head_is_the_same_in_factors_and_without(loss, monkeypatch):
    random = np.random.default_rng(0)
    y = np.arange(120) % 30
    X = random.normal(size=(30, 4))[y] + 0.3 * random.normal(size=(120, 4))
    head = LinearSGD(lrs=[0.02, 0.1], momentum=0.0, weight_decay=1e-3, loss=loss, epochs=5, batch_size=16,
                     scaling="standard", device="cpu")  # fmt: skip
    found = {}
    for limit in (0, 1e9):
        monkeypatch.setattr(linear_sgd_solver, "FACTORED_FROM", limit)
        head.fit(X, y, validation=(X, y))
        found[limit] = head.coefs_, head.intercepts_
    for first, second in zip(*found.values(), strict=True):
        np.testing.assert_allclose(first, second, atol=2e-4)
    assert not LinearSGD(loss=loss)._factors(10**6, 8)  # by default momentum
