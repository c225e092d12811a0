import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.kernel_ridge import KernelRidge

from probe.core.errors import InputError
from probe.datasets import linear_tasks
from probe.heads.ols import OrdinaryLeastSquares
from probe.heads.shared import number_moments
from probe.heads.shared.ridge_numbers import RidgeNumbers
from probe.heads.spectral_filter import SpectralFilter
from probe.metrics.evaluate import measure
from probe.metrics.shared.scores.number import read

RNG = np.random.default_rng(0)


def number_case():
    """What fits numbers in a second, for `tests/contracts/test_number_heads.py`."""
    return {"steps": [1, 8, 64]}


def context(n=20, d=8, columns=2, seed=0):
    """Rows, numbers and queries of tasks without intercepts."""
    rng = np.random.default_rng(seed)
    X, W = rng.normal(size=(n, d)), rng.normal(size=(d, columns))
    return X, X @ W + 0.3 * rng.normal(size=(n, columns)), rng.normal(size=(30, d))


def fitted(X, Y, **parameters):
    return SpectralFilter(centre=False, **parameters).fit(X, Y)


def descended(X, Y, eta, steps):
    W = np.zeros((X.shape[1], Y.shape[1]))
    for _ in range(steps):
        W += eta * X.T @ (Y - X @ W)
    return W.T


@pytest.mark.parametrize("shape", [(20, 8), (6, 20)])
@pytest.mark.parametrize("steps", [1, 2, 50])
def test_steps_of_descent_are_a_filter(shape, steps):
    X, Y, _ = context(*shape)
    head = fitted(X, Y, steps=[steps], eta=0.9 / np.linalg.norm(X, 2) ** 2)
    np.testing.assert_allclose(head.coef_, descended(X, Y, head.eta_, steps), atol=1e-12)
    assert fitted(X, Y, steps=[steps]).eta_ == pytest.approx(1 / np.linalg.norm(X, 2) ** 2)


def test_one_layer_of_linear_self_attention_is_a_step_of_descent_plain_or_preconditioned():
    X, Y, queries = context(columns=1)
    tokens, d = np.hstack([X, Y]), X.shape[1]
    step = fitted(X, Y, steps=[1], eta="star", noise=0.5)
    assert step.eta_ == 1 / (20 + 8 + 1 + 0.5)
    whitened = fitted(X, Y, filter="preconditioned", alphas=[0.1])
    gamma = np.linalg.inv(X.T @ X / len(X) + 0.1 / len(X) * np.eye(d)) / (len(X) + d + 1)
    for head, of in ((step, step.eta_ * np.eye(d)), (whitened, gamma)):
        query_key, value = np.zeros((d + 1, d + 1)), np.zeros((d + 1, d + 1))
        query_key[:d, :d], value[d, d] = of.T, 1
        asked = np.hstack([queries, np.zeros((len(queries), 1))])
        said = sum(np.outer(asked @ query_key.T @ z, value @ z) for z in tokens)
        np.testing.assert_allclose(head.predict(queries)[:, 0], said[:, d], atol=1e-12)


@pytest.mark.parametrize("shape", [(20, 8), (6, 20)])
def test_ridge_is_its_dual_a_fold_over_the_rows_and_the_posterior_mean(shape):
    X, Y, queries = context(*shape)
    head = fitted(X, Y, filter="ridge", alphas=[0.7])
    dual = KernelRidge(alpha=0.7).fit(X, Y).predict(queries)
    np.testing.assert_allclose(head.predict(queries), dual, atol=1e-8)
    inverse = np.eye(X.shape[1]) / 0.7
    for x in X:
        inverse -= np.outer(inverse @ x, x @ inverse) / (1 + x @ inverse @ x)
    np.testing.assert_allclose(head.coef_, (inverse @ X.T @ Y).T, atol=1e-8)
    # Rows and W x at a query are normal together: W ~ N(0, 2), noise of variance 1.4.
    together = 2 * X @ X.T + 1.4 * np.eye(len(X))
    np.testing.assert_allclose(head.predict(queries), 2 * queries @ X.T @ np.linalg.solve(together, Y), atol=1e-8)


def test_with_an_intercept_it_is_the_ridge_and_the_least_squares_of_the_package():
    X, y = load_diabetes(return_X_y=True)
    pairs = [
        (SpectralFilter("ridge", alphas=[0.2]), RidgeNumbers([0.2])),
        (SpectralFilter("ols"), OrdinaryLeastSquares()),
    ]
    for head, peer in pairs:
        np.testing.assert_allclose(head.fit(X, y).predict(X), peer.fit(X, y).predict(X), rtol=1e-10)


def test_many_steps_and_no_penalty_are_least_squares_of_minimum_norm():
    X, Y, _ = context(6, 20)
    least = (np.linalg.pinv(X) @ Y).T
    for parameters in ({"filter": "ols"}, {"filter": "ridge", "alphas": [1e-10]}, {"steps": [10**6]}):
        np.testing.assert_allclose(fitted(X, Y, **parameters).coef_, least, atol=1e-8)


def test_no_intercept_costs_no_digit_from_moments_or_from_rows(monkeypatch):
    X, Y, _ = context(60, 8)
    X, Y = X + 3, Y - 5
    expected = np.linalg.solve(X.T @ X + 2 * np.eye(8), X.T @ Y).T
    np.testing.assert_allclose(fitted(X, Y, filter="ridge", alphas=[2.0]).coef_, expected, rtol=1e-9)
    X, Y = np.tile(X, (1, 20)), Y
    expected = (X.T @ np.linalg.solve(X @ X.T + 2 * np.eye(60), Y)).T
    np.testing.assert_allclose(fitted(X, Y, filter="ridge", alphas=[2.0]).coef_, expected, rtol=1e-8)
    assert number_moments.LeastSquares([(X, Y)], centre=False).y_mean.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("d", "n", "noise", "risk"), [(8, 20, 0.0, 0.3103), (8, 20, 1.0, 0.3333), (5, 10, 0.25, 0.3846)]
)
def test_the_best_step_and_its_risk_are_those_of_the_theorem(d, n, noise, risk):
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(4000, n, d)), rng.normal(size=(4000, d, 1))
    Y = X @ W + np.sqrt(noise) * rng.normal(size=(4000, n, 1))
    step = np.swapaxes(X, 1, 2) @ Y
    best = (step * W).sum() / (step**2).sum()
    star = SpectralFilter(eta="star", noise=noise, steps=[1], centre=False).fit(X[0], Y[0]).eta_
    assert star == pytest.approx(best, rel=0.02)
    assert ((star * step - W) ** 2).sum() / (4000 * d) == pytest.approx(risk, rel=0.03)


def test_the_risks_of_the_experiment_are_those_of_the_card():
    # `experiment=in_context` on a few contexts: R2 against numbers without noise is 1 - risk / d.
    for noise, expected in ((0.0, 0.690), (1.0, 0.667)):
        data = linear_tasks.load(noise=noise, n_tasks=100, n_train=400, n_test=300)
        train, test = data.partitions["train"], data.partitions["test"]
        explained = {"gd": [], "ridge": []}
        for start in range(0, 400, 20):
            rows = slice(start, start + 20)
            for name, found in explained.items():
                head = fitted(train.rows[rows], train.labels[rows], filter=name, steps=[1], eta="star", noise=noise,
                              alphas=[noise])  # fmt: skip
                errors = test.labels - head.predict(test.rows)
                found.append(1 - (errors**2).sum() / (test.labels**2).sum())
        assert np.mean(explained["gd"]) == pytest.approx(expected, abs=0.03)
        assert np.mean(explained["ridge"]) > np.mean(explained["gd"]) + 0.05
        assert noise or np.mean(explained["ridge"]) == pytest.approx(1)


def test_steps_and_penalty_are_chosen_on_validation_rows_and_fitted_on_both():
    X, Y, _ = context(200, 30, seed=3)
    Y = Y + 3 * RNG.normal(size=Y.shape)
    head = SpectralFilter().fit(X[:40], Y[:40], validation=(X[40:], Y[40:]))
    assert head.selection_["on"] == "validation"
    assert head.steps_ == head.selection_["chosen"]["steps"] < 1024
    scores = {entry["steps"]: entry["score"] for entry in head.selection_["searched"]}
    alone = SpectralFilter(steps=[head.steps_]).fit(X[:40], Y[:40])
    errors = ((Y[40:] - alone.predict(X[40:])) ** 2).mean(axis=0) / Y[:40].var(axis=0)
    assert scores[head.steps_] == pytest.approx(-errors.mean()) == max(scores.values())
    np.testing.assert_allclose(head.predict(X), SpectralFilter(steps=[head.steps_]).fit(X, Y).predict(X))
    np.testing.assert_allclose(head.before_refit().predict(X), alone.predict(X))


@pytest.mark.parametrize(
    ("other", "nearest"),
    [
        (RidgeNumbers([10.0]), "ridge(alpha=10)"),
        (OrdinaryLeastSquares(), "ols"),
        (SpectralFilter(steps=[4]), "gd(steps=4)"),
        (SpectralFilter(steps=[10**5]), "ols"),
        (SpectralFilter("preconditioned", alphas=[0.1]), "preconditioned(alpha=0.1)"),
    ],
    ids=["ridge", "ols", "gd", "gd that has ended", "preconditioned"],
)
def test_agreement_names_the_learner_that_another_head_is(other, nearest):
    X, Y, queries = context(60, 8)
    head = SpectralFilter().fit(X, Y)
    said = other.fit(X, Y).predict(queries)
    found = head.agreement(queries, said)
    assert next(iter(found)) == nearest
    assert found[nearest] == 0
    assert list(found.values()) == sorted(found.values())
    # Symmetric: the distance of this head from that learner is that learner's from this head.
    if nearest == "gd(steps=4)":
        assert other.agreement(queries, head.predict(queries))[nearest] == pytest.approx(
            SpectralFilter(steps=[head.steps_]).fit(X, Y).agreement(queries, said)[f"gd(steps={head.steps_})"]
        )


def test_agreement_of_a_head_with_itself_is_exact():
    X, Y, queries = context()
    for name in ("gd", "preconditioned", "ridge", "ols"):
        head = SpectralFilter(name).fit(X, Y)
        agreed = [of for of, distance in head.agreement(queries).items() if distance == 0]
        assert any(of.startswith(name) for of in agreed)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"filter": "lasso"}, "filter is 'lasso', expected one of gd, preconditioned, ridge, ols"),
        ({"steps": [0]}, r"steps is \[0\], expected whole numbers from 1"),
        ({"eta": "best"}, "eta is 'best', expected auto, star or a number above 0"),
        ({"eta": 5.0}, r"eta is 5, above 2 / max L = .*: set head.eta=auto, or head.steps=\[1\]"),
        ({"noise": -1.0}, "noise is -1.0, expected a variance from 0"),
        ({"filter": "ridge", "alphas": [-1]}, r"alphas=\[-1\] are no penalties"),
    ],
)
def test_what_no_learner_can_be_is_refused(parameters, text):
    X, Y, _ = context()
    with pytest.raises(InputError, match=text):
        SpectralFilter(**parameters).fit(X, Y)


def test_the_remedies_work_and_predictions_of_other_rows_are_refused():
    X, Y, queries = context()
    assert np.isfinite(SpectralFilter(eta=5.0, steps=[1]).fit(X, Y).predict(queries)).all()
    with pytest.raises(InputError, match=r"predictions have shape \(2, 1\) for 30 rows of 2 columns"):
        SpectralFilter().fit(X, Y).agreement(queries, [1.0, 2.0])


@pytest.mark.parametrize("shape", [(40, 8), (12, 40), (30, 40)])
def test_the_head_of_designs_is_its_dual_and_the_unit_of_the_features_has_no_say(shape):
    # K = X X', beta = 1e-6 tr K / N: f(x) = x X' (K + beta)^-1 y.
    X, Y, _ = context(*shape)
    queries = np.random.default_rng(1).normal(size=(30, shape[1]))
    K = X @ X.T
    dual = queries @ X.T @ np.linalg.solve(K + 1e-6 * np.trace(K) / len(K) * np.eye(len(K)), Y)
    found = bib().fit(X, Y).predict(queries)
    np.testing.assert_allclose(found, dual, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(bib().fit(1000 * X, Y).predict(1000 * queries), found, rtol=1e-6, atol=1e-8)


def test_the_head_of_one_design_has_the_closed_form_of_the_backward_loss():
    # Fitted on the design alone: g(X) = X x y / (|x|^2 (1 + 1e-6)); its rows twice, since one row fits nothing.
    X, _, queries = context()
    x = X[:1]
    found = bib().set_params(alphas=[0.5e-6]).fit(np.repeat(x, 2, axis=0), [10.0, 10.0]).predict(queries)
    beta = 0.5e-6
    expected = queries @ x[0] * 10 * 2 / (2 * (x[0] @ x[0]) + beta * (x[0] @ x[0]))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_it_finds_high_scorers_of_a_pool_above_all_that_it_learnt_from():
    letters = np.array(np.meshgrid(*[range(4)] * 5)).reshape(5, -1).T
    one_hot = np.eye(4)[letters].reshape(len(letters), -1)
    rng = np.random.default_rng(0)
    features = np.tanh(one_hot @ rng.normal(size=(20, 64)))
    score = one_hot @ rng.normal(size=20) + 0.3 * np.sin(3 * one_hot @ rng.normal(size=20))
    order = np.argsort(score)
    offline, pool = rng.permutation(order[:512])[:300], order[512:]
    said = bib().fit(features[offline], score[offline]).predict(features[pool])
    found = measure({"rows": read(said, score[pool])}).metrics
    assert found["top_tenth"].low > score[pool].mean() > score[offline].max()
    assert found["spearman"].value > 0.5


def bib():
    """`head=bib`."""
    return SpectralFilter("ridge", alphas=[1e-6], relative=True, centre=False)
