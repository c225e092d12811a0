import numpy as np
import pytest
from known_bayes import correlated, diagonal, excess_in_standard_errors, offline_accuracies
from oracles import files_of
from places import ROOT
from safetensors.numpy import load_file
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB

from probe.core.errors import InputError
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.ncm import NearestClassMean

DATASETS = [load_digits, load_wine, load_breast_cancer, load_iris]


@pytest.mark.parametrize("load", DATASETS)
@pytest.mark.parametrize("var_smoothing", [1e-9, 1e-3])
def test_per_class_variance_equals_gaussian_nb(load, var_smoothing):
    X, y = load(return_X_y=True)
    head = NaiveBayes("per_class", var_smoothing, scaling="none").fit(X[::2], y[::2])
    peer = GaussianNB(var_smoothing=var_smoothing).fit(X[::2], y[::2])
    np.testing.assert_allclose(head.var_, peer.var_, rtol=1e-9)
    np.testing.assert_array_equal(head.predict(X[1::2]), peer.predict(X[1::2]))
    np.testing.assert_allclose(head.predict_proba(X[1::2]), peer.predict_proba(X[1::2]), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("load", DATASETS)
@pytest.mark.parametrize("variance", ["pooled", "per_class"])
def test_minmax_scaling_equals_a_scaler_in_front(load, variance):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    X, y = load(return_X_y=True)
    for scaling, scaler in (("minmax", MinMaxScaler()), ("standard", StandardScaler())):
        folded = NaiveBayes(variance, 1e-2, scaling).fit(X, y)
        chained = make_pipeline(scaler, NaiveBayes(variance, 1e-2, "none")).fit(X, y)
        np.testing.assert_allclose(folded.predict_proba(X), chained.predict_proba(X), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("path", files_of("naive_bayes"), ids=lambda path: path and path.stem)
def test_released_implementation_after_every_batch(path):
    data = load_file(path)
    n_batches = sum(name.startswith("input.batch") and name.endswith(".x") for name in data)
    batches = [(data[f"input.batch{b}.x"], data[f"input.batch{b}.y"]) for b in range(n_batches)]
    classes = np.unique(np.concatenate([y for _, y in batches]))
    for last in range(len(batches)):
        # The released code adds 1e-9, scikit-learn's meaning is a share of the largest variance.
        seen = np.concatenate([X for X, _ in batches[: last + 1]])
        pooled, per_class = (NaiveBayes(v, 1e-9 / seen.var(axis=0).max(), "none") for v in ("pooled", "per_class"))
        for X, y in batches[: last + 1]:
            pooled.partial_fit(X, y, classes=classes)
            per_class.partial_fit(X, y, classes=classes)
        np.testing.assert_allclose(per_class.theta_, data[f"output.after_batch{last}.means"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(per_class.var_, data[f"output.after_batch{last}.class_vars"], rtol=0, atol=1e-9)
        prior = pooled.class_count_ / pooled.class_count_.sum()
        np.testing.assert_allclose(prior, data[f"output.after_batch{last}.prior"], rtol=0, atol=1e-9)
    X = data["test.x"]
    np.testing.assert_array_equal(pooled.predict(X), data["output.test.predictions"])
    expected = data["output.test.joint_log_likelihood_up_to_shared_constant"]
    np.testing.assert_allclose(
        pooled.logits(X) - pooled.logits(X)[:, :1], expected - expected[:, :1], rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("variance", ["pooled", "per_class"])
@pytest.mark.parametrize("scaling", ["minmax", "standard", "none"])
def test_streaming_equals_batch_in_any_order_and_split(variance, scaling):
    X, y = load_wine(return_X_y=True)
    batch = NaiveBayes(variance, 1e-6, scaling).fit(X, y)
    stream = NaiveBayes(variance, 1e-6, scaling)
    for part in np.array_split(np.argsort(y, kind="stable")[::-1], [1, 5, 60, 61]):
        stream.partial_fit(X[part], y[part], classes=[0, 1, 2])
    np.testing.assert_allclose(stream.var_, batch.var_, rtol=1e-12)
    np.testing.assert_allclose(stream.theta_, batch.theta_, rtol=1e-12)
    np.testing.assert_allclose(stream.logits(X), batch.logits(X), rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("variance", ["pooled", "per_class"])
def test_streaming_equals_batch_in_random_orders_and_splits(variance, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(200, 5)) * np.geomspace(1e-3, 1e3, 5) + 50, rng.integers(0, 6, 200)
    batch, stream = NaiveBayes(variance).fit(X, y), NaiveBayes(variance)
    for part in np.split(rng.permutation(200), np.sort(rng.integers(0, 201, 12))):
        if len(part):
            stream.partial_fit(X[part], y[part], classes=np.arange(6))
    np.testing.assert_allclose(stream.theta_, batch.theta_, rtol=1e-12)
    np.testing.assert_allclose(stream.var_, batch.var_, rtol=1e-9)
    np.testing.assert_allclose(stream.predict_proba(X), batch.predict_proba(X), rtol=1e-9, atol=1e-12)


def test_one_variance_for_all_features_and_equal_priors_is_the_nearest_class_mean():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4, 6)) * 2
    # Every class around its mean in plus and minus pairs: means are exact, every variance is the same.
    X = np.concatenate([mean + sign * np.sqrt(6) * np.eye(6) for mean in means for sign in (-1, 1)])
    y = np.arange(4).repeat(12)
    head, peer = NaiveBayes(var_smoothing=0, scaling="none").fit(X, y), NearestClassMean().fit(X, y)
    np.testing.assert_allclose(head.var_, 1)
    rows = rng.normal(size=(500, 6)) * 3
    np.testing.assert_allclose(np.diff(head.logits(rows)), np.diff(peer.logits(rows)), atol=1e-9)
    np.testing.assert_allclose(peer.logits(rows) - peer.logits(rows)[:, :1], rule(rows, means), atol=1e-9)


def rule(rows, means):
    """w_k = mu_k, b_k = -|mu_k|^2 / 2, less the score of the first class."""
    scores = rows @ means.T - (means**2).sum(axis=1) / 2
    return scores - scores[:, :1]


def test_linear_form_is_the_rule():
    X, y = load_wine(return_X_y=True)
    head = NaiveBayes().fit(X, y)
    np.testing.assert_allclose(head.decision_function(X), X @ head.coef_.T + head.intercept_, rtol=1e-12)
    v, mu = head.var_, head.theta_
    paper = np.log(np.bincount(y) / len(y)) + X @ (mu / v).T - (mu**2 / v).sum(axis=1) / 2
    np.testing.assert_allclose(np.diff(head.decision_function(X)), np.diff(paper), rtol=1e-8)


def test_pooled_equals_lda_with_a_diagonal_covariance():
    class Diagonal:
        def fit(self, X):
            self.covariance_ = np.diag(X.var(axis=0))
            return self

    X, y = load_wine(return_X_y=True)
    peer = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Diagonal()).fit(X, y)
    head = NaiveBayes(var_smoothing=0).fit(X, y)
    np.testing.assert_allclose(np.diff(head.logits(X)), np.diff(peer.decision_function(X)), rtol=1e-7)


def test_affine_maps_of_features_move_no_probability():
    X, y = load_breast_cancer(return_X_y=True)
    rng = np.random.default_rng(0)
    moved = X * 10 ** rng.uniform(-3, 3, X.shape[1]) * rng.choice([-1, 1], X.shape[1]) + rng.normal(size=X.shape[1])
    for variance in ("pooled", "per_class"):
        a, b = NaiveBayes(variance).fit(X, y), NaiveBayes(variance).fit(moved, y)
        np.testing.assert_allclose(a.predict_proba(X), b.predict_proba(moved), rtol=1e-5, atol=1e-9)


def test_duplicating_a_feature_counts_it_twice():
    X, y = load_iris(return_X_y=True)
    one, two = NaiveBayes().fit(X, y), NaiveBayes().fit(np.column_stack([X, X[:, 2]]), y)
    np.testing.assert_allclose(two.coef_[:, [2, 4]], one.coef_[:, [2, 2]], rtol=1e-9)


@pytest.mark.parametrize("variance", ["pooled", "per_class"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_feature_changes_nothing(variance, value):
    X, y = load_wine(return_X_y=True)
    padded = np.column_stack([X, np.full(len(X), value)])
    plain = NaiveBayes(variance).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(NaiveBayes(variance).fit(padded, y).predict_proba(padded), plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variance", ["pooled", "per_class"])
def test_one_row_per_class_is_the_nearest_mean_on_scaled_features(variance):
    X, y = load_digits(return_X_y=True)
    first = np.array([np.flatnonzero(y == k)[0] for k in range(10)])
    low, high = X[first].min(axis=0), X[first].max(axis=0)
    scaled = (X - low) / np.where(high > low, high - low, 1) * (high > low)
    distances = ((scaled[:, None] - scaled[first]) ** 2).sum(axis=2)
    head = NaiveBayes(variance).fit(X[first], y[first])
    assert np.isfinite(head.logits(X)).all()
    best = np.take_along_axis(distances, head.predict(X)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(best, distances.min(axis=1), rtol=1e-9)  # ties may fall either way


@pytest.mark.parametrize("variance", ["pooled", "per_class"])
def test_a_class_without_rows_is_never_predicted(variance):
    X, y = load_digits(return_X_y=True)
    head = NaiveBayes(variance).partial_fit(X[y != 3], y[y != 3], classes=np.arange(10))
    rows = np.random.default_rng(0).normal(size=(500, 64)) * 20
    assert not (head.predict(rows) == 3).any()
    assert (head.predict_proba(rows)[:, 3] == 0).all()


def test_priors_come_from_the_rows():
    X, y = load_iris(return_X_y=True)
    rows = np.concatenate([np.arange(150), np.flatnonzero(y == 2)])
    a, b = NaiveBayes().fit(X, y), NaiveBayes().fit(X[rows], y[rows])
    assert (b.predict(X) == 2).sum() >= (a.predict(X) == 2).sum()
    np.testing.assert_allclose(b.class_log_prior_, np.log([0.25, 0.25, 0.5]))


def test_validation_rows_are_further_training_rows():
    X, y = load_wine(return_X_y=True)
    split = NaiveBayes().fit(X[::2], y[::2], validation=(X[1::2], y[1::2]))
    np.testing.assert_allclose(split.logits(X), NaiveBayes().fit(X, y).logits(X), rtol=1e-9)


def test_diagonal_gaussians_reach_bayes_and_correlated_ones_do_not():
    assert abs(excess_in_standard_errors(NaiveBayes(), diagonal())) < 3
    assert abs(excess_in_standard_errors(NaiveBayes("per_class"), diagonal())) < 3
    assert excess_in_standard_errors(NaiveBayes(), correlated()) > 10


@pytest.mark.parametrize(
    ("load", "pooled", "per_class"),
    [
        (load_digits, 89.47, 82.90),
        (load_wine, 95.73, 97.19),
        (load_breast_cancer, 93.79, 93.51),
        (load_iris, 95.73, 95.87),
    ],
)
def test_offline_reference_of_the_card(load, pooled, per_class):
    assert offline_accuracies(NaiveBayes(), load).mean() == pytest.approx(pooled, abs=0.01)
    assert offline_accuracies(NaiveBayes("per_class"), load).mean() == pytest.approx(per_class, abs=0.01)


def test_bad_parameters_are_refused_with_a_sentence():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError, match="variance='tied' is unknown: set variance to pooled or per_class"):
        NaiveBayes(variance="tied").fit(X, y)
    with pytest.raises(InputError, match="scaling='l2' is unknown: set scaling to minmax, standard or none"):
        NaiveBayes(scaling="l2").fit(X, y)
    with pytest.raises(InputError, match="var_smoothing=-1 is no share: set it to 0 or more"):
        NaiveBayes(var_smoothing=-1).fit(X, y)
    for variance in ("pooled", "per_class"):
        with pytest.raises(InputError, match="features have no variance within a class and var_smoothing=0 adds none"):
            NaiveBayes(variance, var_smoothing=0).fit(X[::50], y[::50])


@pytest.mark.slow
def test_rows_needed_do_not_grow_with_features_but_those_of_logistic_regression_do():
    """The card's table: two classes, 8.0 and 7.6 rows for naive Bayes, 107 and 408 for logistic regression."""
    import importlib.util

    path = ROOT / "benchmarks" / "naive_bayes_samples.py"
    spec = importlib.util.spec_from_file_location("naive_bayes_samples", path)
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    for n_classes in (2, 3, 5):
        small, large = (table.mean_rows_needed("NB", n_classes, width) for width in (100, 400))
        assert large < 2 * small
        assert large < 30
    assert table.mean_rows_needed("LR", 2, 100) == pytest.approx(107, rel=0.15)
    assert table.mean_rows_needed("LR", 2, 400) == pytest.approx(408, rel=0.15)
