"""A grid of probes against the linear probe on each of its cells, and against scikit-learn's objectives."""

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.core.lazy import Cells
from probe.heads.grid import GridProbe
from probe.heads.linear import LinearProbe
from probe.heads.shared.head import Head

CS = [1e-3, 1e-1, 1.0, 10.0]


def contract_case():
    return {"Cs": 3}


def drawn(n=300, n_cells=5, width=12, n_classes=3, seed=0, dtype=np.float32):
    """Cells that know more and more of the label, the last but one most."""
    random = np.random.default_rng(seed)
    y = random.integers(0, n_classes, n)
    means = random.normal(size=(n_cells, n_classes, width))
    strength = np.array([*np.linspace(0, 0.5, n_cells - 2), 1.2, 0.3])[:n_cells]
    X = random.normal(size=(n, n_cells, width)) + strength[None, :, None] * means[:, y].transpose(1, 0, 2)
    return X.astype(dtype), y


@pytest.fixture(scope="module", params=[2, 3])
def parts(request):
    X, y = drawn(n=600, n_classes=request.param)
    return X[:300], y[:300], X[300:450], y[300:450], X[450:]


@pytest.mark.parametrize("scaling", ["none", "standard", "l2"])
@pytest.mark.parametrize("width", [12, 400], ids=["more rows", "fewer rows than features"])
def test_each_cell_is_the_linear_probe_there(parts, scaling, width):
    X, y, X_val, y_val, X_test = parts
    if width > 12:
        wide = np.random.default_rng(1).normal(size=(12, width)).astype(np.float32)
        X, X_val, X_test = (part[:, :2] @ wide for part in (X[:60], X_val, X_test))
        y = y[:60]
    options = {"Cs": CS, "scaling": scaling, "tol": 1e-9}
    head = GridProbe(**options).fit(X, y, validation=(X_val, y_val))
    best = []
    for cell in range(X.shape[1]):
        alone = LinearProbe(**options).fit(X[:, cell], y, validation=(X_val[:, cell], y_val))
        assert head.cell_Cs_[cell] == alone.C_
        spread = np.ptp(alone.logits(X_test[:, cell]))
        np.testing.assert_allclose(
            head.cell_logits(X_test, cell), alone.logits(X_test[:, cell]), rtol=1e-3, atol=2e-3 * spread
        )
        best.append(alone.scores_.max())
    np.testing.assert_allclose(head.cell_scores_, best)
    assert head.cell_scores_[head.cell_] == max(best)
    np.testing.assert_array_equal(head.logits(X_test), head.cell_logits(X_test, head.cell_))


def objective(X, y, C, coef, intercept):
    """C * sum of cross-entropies + 1/2 ||W||^2, of the sigmoid form for two classes, as scikit-learn has it."""
    scores = X.astype(np.float64) @ coef.astype(np.float64).T + intercept
    scores = np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]
    return C * losses.sum() + 0.5 * (coef.astype(np.float64) ** 2).sum()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_no_objective_of_a_grid_is_above_that_of_scikit_learn(n_classes):
    X, y = drawn(n=400, n_classes=n_classes)
    for C in CS:
        head = GridProbe(Cs=[C], tol=1e-8, refit=False).fit(X, y, validation=(X, y))
        for cell in range(X.shape[1]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                peer = LogisticRegression(C=C, tol=1e-8, max_iter=2000).fit(X[:, cell], y)
            ours = objective(X[:, cell], y, C, head.cell_coefs_[cell], head.cell_intercepts_[cell])
            assert ours <= objective(X[:, cell], y, C, peer.coef_, peer.intercept_) * (1 + 1e-6)


def test_batches_of_cells_move_no_cell(parts, monkeypatch):
    X, y, X_val, y_val, _ = parts
    together = GridProbe(Cs=CS).fit(X, y, validation=(X_val, y_val))
    monkeypatch.setattr("probe.heads.shared.cell_paths.BATCH_BYTES", 1)  # each is then solved alone
    alone = GridProbe(Cs=CS).fit(X, y, validation=(X_val, y_val))
    assert together.cell_ == alone.cell_
    np.testing.assert_array_equal(together.cell_Cs_, alone.cell_Cs_)
    np.testing.assert_allclose(together.cell_coefs_, alone.cell_coefs_, atol=0.02 * np.ptp(alone.cell_coefs_))


def test_rows_are_read_where_they_lie_and_cells_keep_their_names(parts):
    X, y, X_val, y_val, X_test = parts
    names = [f"blocks.{i}" for i in range(X.shape[1])]
    every = Cells({name: np.concatenate([X, X_val, X_test])[:, i] for i, name in enumerate(names)})
    train, validation, test = (
        RowSubset(every, rows) for rows in np.split(np.arange(len(every)), [len(X), len(X) + len(X_val)])
    )
    head = GridProbe(Cs=CS).fit(train, y, validation=(validation, y_val))
    expected = GridProbe(Cs=CS).fit(X, y, validation=(X_val, y_val))
    assert head.names_ == names
    assert head.selection_["cell"] == names[head.cell_]
    np.testing.assert_allclose(head.logits(test), expected.logits(X_test), rtol=1e-4, atol=1e-4)


def test_poisoned_rows_that_validate_move_the_choice_alone(parts):
    X, y, X_val, y_val, _ = parts
    options = {"Cs": [0.1], "refit": False}
    head = GridProbe(**options).fit(X, y, validation=(X_val, y_val))
    poisoned = X_val.copy()
    poisoned[:, head.cell_] = 0
    other = GridProbe(**options).fit(X, y, validation=(poisoned, y_val))
    assert other.cell_ != head.cell_
    np.testing.assert_array_equal(other.cell_coefs_, head.cell_coefs_)


def test_folds_choose_where_rows_are_few():
    X, y = drawn(n=60)
    folds = np.arange(60) % 5
    head = GridProbe(Cs=CS).fit_on_folds(X, y, folds)
    means = [
        [
            np.mean([
                (GridProbe(Cs=[C]).fit(X[folds != f], y[folds != f], validation=(X[folds == f], y[folds == f]))
                 .before_refit().cell_logits(X[folds == f], cell).argmax(1) == y[folds == f]).mean()
                for f in range(5)
            ])
            for C in CS
        ]
        for cell in range(X.shape[1])
    ]  # fmt: skip
    np.testing.assert_allclose(head.cell_scores_, np.max(means, axis=1), atol=0.02)
    assert head.cell_ == 3
    assert head.selection_["on"] == "5 folds of the training rows"
    assert set(head._of_folds) == set(range(5))


def test_a_class_that_only_validation_rows_have_is_known_after_the_refit(parts):
    X, y, X_val, y_val, X_test = parts
    if len(np.unique(y)) < 3:
        pytest.skip("two classes leave one")
    keep = y > 0
    head = GridProbe(Cs=CS).fit(X[keep], y[keep], validation=(X_val, y_val))
    assert np.isfinite(head.logits(X_test)).all()
    assert np.isneginf(head.before_refit().logits(X_test)[:, 0]).all()


def test_a_grid_is_saved_whole(parts, tmp_path):
    X, y, X_val, y_val, X_test = parts
    head = GridProbe(Cs=CS).fit(X, y, validation=(X_val, y_val))
    head.save(tmp_path / "head.safetensors")
    again = Head.load(tmp_path / "head.safetensors")
    assert again.names_ == head.names_
    for cell in range(X.shape[1]):
        np.testing.assert_array_equal(again.cell_logits(X_test, cell), head.cell_logits(X_test, cell))


def test_vectors_are_no_grid():
    with pytest.raises(InputError, match=r"cells has shape \(8, 4\): give \(rows, cells, width\)"):
        GridProbe().fit(np.zeros((8, 4)), np.arange(8) % 2)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_cells_of_fewer_rows_than_features_may_span_less_than_others(n_classes):
    """The first token of an encoder ahead of its first block is the same for all texts."""
    X, y = drawn(n=60, width=80, n_classes=n_classes)
    X[:, 1] = X[0, 1]
    X[:, 2, 3:] = 0
    head = GridProbe(Cs=CS, tol=1e-9).fit(X[:40], y[:40], validation=(X[40:], y[40:]))
    for cell in range(5):
        alone = LinearProbe(Cs=[head.cell_Cs_[cell]], tol=1e-9).fit(X[:, cell], y)
        expected = alone.logits(X[:, cell])
        found = head.cell_logits(X, cell)
        np.testing.assert_allclose(
            found - found.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=5e-3
        )
