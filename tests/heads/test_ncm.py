import numpy as np
import pytest
from known_bayes import correlated, diagonal, excess_in_standard_errors, isotropic, offline_accuracies
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from probe.core.errors import InputError
from probe.heads.ncm import NearestClassMean

DATASETS = [load_digits, load_wine, load_breast_cancer, load_iris]


@pytest.mark.parametrize("load", DATASETS)
@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_ has at least 1 zero:UserWarning")
def test_euclidean_equals_nearest_centroid(load):
    X, y = load(return_X_y=True)
    head, peer = NearestClassMean().fit(X[::2], y[::2]), NearestCentroid().fit(X[::2], y[::2])
    np.testing.assert_allclose(head.centroids_, peer.centroids_, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(head.predict(X[1::2]), peer.predict(X[1::2]))


def test_scores_are_half_squared_distances_up_to_a_shared_term():
    X, y = load_wine(return_X_y=True)
    head = NearestClassMean().fit(X, y)
    distances = -((X[:, None] - head.centroids_) ** 2).sum(axis=2) / 2
    np.testing.assert_allclose(np.diff(head.logits(X)), np.diff(distances), rtol=1e-9, atol=1e-6)


def test_cosine_equals_its_definition():
    X, y = load_digits(return_X_y=True)
    means = np.array([X[y == k].mean(axis=0) for k in range(10)])
    cosines = (X @ means.T) / np.linalg.norm(X, axis=1)[:, None] / np.linalg.norm(means, axis=1)
    np.testing.assert_allclose(NearestClassMean(metric="cosine").fit(X, y).logits(X), cosines, rtol=1e-12)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("post_norm", [False, True])
def test_streaming_equals_batch_in_any_order_and_split(metric, pre_norm, post_norm):
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float16)
    batch = NearestClassMean(metric, pre_norm, post_norm).fit(X, y)
    order = np.argsort(y, kind="stable")[::-1]
    stream = NearestClassMean(metric, pre_norm, post_norm)
    for part in np.array_split(order, [1, 3, 500, 501, 1700]):
        stream.partial_fit(X[part], y[part], classes=np.arange(10))
    if pre_norm:
        np.testing.assert_allclose(stream.logits(X), batch.logits(X), rtol=1e-12, atol=1e-12)
    else:
        np.testing.assert_array_equal(stream.logits(X), batch.logits(X))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_class_without_rows_is_never_predicted(metric):
    X, y = load_digits(return_X_y=True)
    kept = y != 3
    head = NearestClassMean(metric=metric).partial_fit(X[kept] + 5, y[kept], classes=np.arange(10))
    scattered = np.random.default_rng(0).normal(size=(1000, 64))  # all of them nearest to the origin
    assert not (head.predict(scattered) == 3).any()
    assert (head.predict_proba(scattered)[:, 3] == 0).all()
    only_one = NearestClassMean(metric=metric).partial_fit(X[:1], ["b"], classes=["a", "b"])
    assert set(only_one.predict(X)) == {"b"}


def test_means_of_float16_rows_have_the_same_bits_in_any_order_and_split():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 3000)
    X = (rng.normal(size=(3000, 8)) * np.geomspace(1e-3, 1e3, 8)).astype(np.float16)
    expected = NearestClassMean().fit(X, y).centroids_
    for _ in range(3):
        head = NearestClassMean()
        for part in np.split(rng.permutation(3000), np.sort(rng.integers(1, 3000, 6))):
            head.partial_fit(X[part], y[part], classes=np.arange(5))
        np.testing.assert_array_equal(head.centroids_, expected)


def test_a_mean_never_moves_after_its_class_has_passed():
    X, y = load_digits(return_X_y=True)
    head = NearestClassMean()
    head.partial_fit(X[y < 5], y[y < 5], classes=np.arange(10))
    before = head.centroids_[:5].copy()
    head.partial_fit(X[y >= 5], y[y >= 5])
    np.testing.assert_array_equal(head.centroids_[:5], before)


def test_duplicating_the_rows_of_a_class_moves_no_prediction():
    X, y = load_wine(return_X_y=True)
    twice = np.concatenate([np.arange(len(y)), np.flatnonzero(y == 1)])
    a, b = NearestClassMean().fit(X, y), NearestClassMean().fit(X[twice], y[twice])
    np.testing.assert_allclose(a.logits(X), b.logits(X), rtol=1e-9)


def test_isometries_and_scale_move_no_prediction():
    X, y = load_digits(return_X_y=True)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0]
    expected = NearestClassMean().fit(X, y).predict(X)
    for moved in (X @ Q, X @ Q + 1e4, X * 1e-3):
        np.testing.assert_array_equal(NearestClassMean().fit(moved, y).predict(moved), expected)


def test_length_of_a_row_matters_only_without_pre_norm():
    X, y = load_digits(return_X_y=True)
    lengths = np.random.default_rng(0).uniform(0.1, 10, size=(len(X), 1))
    unit = NearestClassMean(pre_norm=True)
    np.testing.assert_allclose(unit.fit(X, y).logits(X), unit.fit(X * lengths, y).logits(X * lengths), atol=1e-12)
    raw = NearestClassMean()
    assert (raw.fit(X, y).predict(X) != raw.fit(X * lengths, y).predict(X * lengths)).mean() > 0.1


def test_euclidean_favours_a_diffuse_class_where_cosine_does_not():
    # Unit rows: class 0 at 0 degrees, class 1 at 90 +- 75, whose mean is short.
    angles = np.deg2rad([0, 0, 15, 165])
    X, y = np.column_stack([np.cos(angles), np.sin(angles)]), [0, 0, 1, 1]
    far = np.array([[-np.cos(np.deg2rad(60)), -np.sin(np.deg2rad(60))]])  # at 240 degrees, 120 from class 0
    euclidean, cosine = (NearestClassMean(metric=m, pre_norm=True).fit(X, y) for m in ("euclidean", "cosine"))
    assert np.linalg.norm(euclidean.centroids_[1]) < 0.3
    assert cosine.predict(far) == 0
    assert euclidean.predict(far) == 1


def test_euclidean_and_cosine_agree_where_means_have_one_length():
    X, y = load_digits(return_X_y=True)
    same_length = NearestClassMean(pre_norm=True, post_norm=True).fit(X, y)
    cosine = NearestClassMean(metric="cosine", pre_norm=True).fit(X, y)
    np.testing.assert_array_equal(same_length.predict(X), cosine.predict(X))


def test_one_row_per_class_is_the_nearest_neighbour():
    X, y = load_digits(return_X_y=True)
    first = np.array([np.flatnonzero(y == k)[0] for k in range(10)])
    head, peer = NearestClassMean(), KNeighborsClassifier(1)
    np.testing.assert_array_equal(head.fit(X[first], y[first]).predict(X), peer.fit(X[first], y[first]).predict(X))


def test_validation_rows_are_further_training_rows():
    X, y = load_wine(return_X_y=True)
    split = NearestClassMean().fit(X[::2], y[::2], validation=(X[1::2], y[1::2]))
    np.testing.assert_allclose(split.logits(X), NearestClassMean().fit(X, y).logits(X), rtol=1e-9)


def test_isotropic_gaussians_reach_bayes_and_others_do_not():
    assert abs(excess_in_standard_errors(NearestClassMean(), isotropic())) < 3
    assert excess_in_standard_errors(NearestClassMean(), diagonal()) > 10
    assert excess_in_standard_errors(NearestClassMean(), correlated()) > 10


@pytest.mark.parametrize(
    ("load", "plain", "unit"),
    [
        (load_digits, 89.96, 90.17),
        (load_wine, 95.17, 92.92),
        (load_breast_cancer, 93.54, 83.68),
        (load_iris, 92.27, 75.60),
    ],
)
def test_offline_reference_of_the_card(load, plain, unit):
    assert offline_accuracies(NearestClassMean(), load).mean() == pytest.approx(plain, abs=0.01)
    assert offline_accuracies(NearestClassMean(pre_norm=True), load).mean() == pytest.approx(unit, abs=0.01)


@pytest.mark.parametrize("parameters", [{}, {"metric": "cosine"}, {"pre_norm": True}, {"post_norm": True}])
def test_zero_rows_and_zero_means_give_finite_scores(parameters):
    X = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0], [2.0, 1.0]])
    assert np.isfinite(NearestClassMean(**parameters).fit(X, [0, 0, 1, 1]).logits(X)).all()


def test_bad_input_is_refused_with_a_sentence(tmp_path):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError, match="metric='l1' is unknown: set metric to euclidean or cosine"):
        NearestClassMean(metric="l1").fit(X, y)
    with pytest.raises(InputError, match="classes is None in the first call of partial_fit: name every class"):
        NearestClassMean().partial_fit(X, y)
    with pytest.raises(InputError, match=r"y holds \[2\], the classes are \[0 1\]: name all classes"):
        NearestClassMean().partial_fit(X, y, classes=[0, 1])
    with pytest.raises(InputError, match=r"classes=\[0 1 3\] differ from those of the first call, \[0 1 2\]"):
        NearestClassMean().partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y, classes=[0, 1, 3])
    with pytest.raises(InputError, match="X has 150 rows and y 149: give one label per row"):
        NearestClassMean().partial_fit(X, y[1:], classes=[0, 1, 2])
    with pytest.raises(InputError, match="X has 75 validation rows and y 74: give one label per row"):
        NearestClassMean().fit(X, y, validation=(X[::2], y[2::2]))
    np.save(tmp_path / "x.npy", np.where(np.arange(150)[:, None] == 77, np.nan, X))
    with pytest.raises(InputError, match="row 77 of X holds NaN or inf"):
        NearestClassMean().fit(np.load(tmp_path / "x.npy", mmap_mode="r"), y)
    NearestClassMean().fit(X, y).save(tmp_path / "head.safetensors")
    with pytest.raises(InputError, match=r"^a NearestClassMean that was loaded, .* has no running sums: give all rows"):
        NearestClassMean.load(tmp_path / "head.safetensors").partial_fit(X, y)
