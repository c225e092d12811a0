import tracemalloc
import warnings

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from places import CONF
from sklearn.datasets import load_iris

import probe
from probe.core.arrays import RowReader, RowSubset
from probe.core.errors import InputError
from probe.core.magnitudes import check_features, check_numbers, tell_of_flat_outputs
from probe.heads.knn import KNearest
from probe.heads.lda import LinearDiscriminant
from probe.heads.linear import LinearProbe
from probe.heads.linear_sgd import LinearSGD
from probe.heads.ncm import NearestClassMean
from probe.heads.ols import OrdinaryLeastSquares
from probe.heads.subclass import Subclasses
from probe.heads.svm import LinearSVM

TOO_LARGE = "features are too large, their squares overflow: set standardize=true, or divide them by a power of ten"
HARDLY_VARY = "features vary by .* a head may learn nothing: set standardize=true, or multiply them by a power of ten"


@pytest.fixture
def iris():
    return load_iris(return_X_y=True)


@pytest.mark.parametrize("scale", [1e-36, 1e-6, 1.0, 1e15])
def test_features_of_every_usual_size_are_taken_and_those_that_hardly_vary_are_told(scale, iris):
    X = (iris[0] * scale).astype(np.float32)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_features(X)
    assert bool(said) == (scale < 1e-6)


def test_zeros_constants_integers_and_the_largest_halves_are_no_matter():
    for rows in (np.zeros((9, 2)), np.full((9, 2), 1e-30), np.ones((9, 2), int), np.empty((0, 2))):
        check_features(rows)
    check_features(np.array([[65504], [-65504]], np.float16))


@pytest.mark.parametrize(
    ("scale", "sentence"),
    [(1e-161, "features are at most [78]e-161, too small to compute with: multiply"), (1e160, TOO_LARGE)],
)
def test_features_that_cannot_be_computed_with_are_refused_wherever_they_lie(scale, sentence, iris):
    X = iris[0] * scale
    for rows in (X, RowSubset(X, np.arange(50, 100)), RowReader({"pooled": X[:, :2], "tokens": X.reshape(150, 2, 2)})):
        with pytest.raises(InputError, match=sentence):
            check_features(rows)
    for head in (NearestClassMean(), KNearest()):
        with pytest.raises(InputError, match=sentence):
            head.fit(X, iris[1])


@pytest.mark.parametrize("name", ["fecam", "knn", "lda", "ncm", "qda", "ranpac", "slda"])
def test_rows_of_a_stream_that_cannot_be_computed_with_are_refused_in_every_batch(name, iris):
    X, y = iris
    for before in (0, 75):
        config = OmegaConf.load(CONF / "head" / f"{name}.yaml")
        if "n_projected" in config:
            config.n_projected = 50
        head = instantiate(config, _convert_="all")
        if before:
            head.partial_fit(X[::2], y[::2], classes=[0, 1, 2])
        with pytest.raises(InputError, match=TOO_LARGE):
            head.partial_fit(1e160 * X[1::2], y[1::2], classes=[0, 1, 2])


def test_neighbours_of_rows_with_several_labels_look_at_magnitudes_too(iris):
    X, y = iris[0], np.eye(3, dtype=int)[iris[1]]
    with pytest.raises(InputError, match=TOO_LARGE):
        KNearest().for_target("labels").fit(1e160 * X, y)
    head = KNearest().for_target("labels").partial_fit(X, y)
    with pytest.raises(InputError, match=TOO_LARGE):
        head.partial_fit(1e160 * X, y)


def test_features_below_the_digits_of_single_precision_are_refused_there_alone(iris):
    X = iris[0] * 1e-40
    with pytest.raises(InputError, match=r"features are at most [78]e-40, too small to compute with"):
        check_features(X.astype(np.float32))
    with pytest.warns(UserWarning, match=HARDLY_VARY):
        check_features(X)


def test_of_tokens_that_hardly_vary_only_what_works_is_named(iris):
    tokens = (iris[0] * 1e-8).astype(np.float32).reshape(150, 2, 2)
    with pytest.warns(UserWarning, match="a head may learn nothing: multiply them by a power of ten"):
        check_features(RowReader({"tokens": tokens}))


def test_no_more_than_a_row_of_tokens_is_held_at_once(monkeypatch):
    read = []

    class Tokens:
        dtype, shape, ndim = np.dtype(np.float16), (1000, 3, 4), 3

        def __len__(self):
            return 1000

        def __getitem__(self, rows):
            read.append(len(range(*rows.indices(1000))))
            return np.full((read[-1], 3, 4), rows.start, np.float16)

    check_features(Tokens())
    assert set(read) == {1}


@pytest.mark.parametrize("head", [LinearProbe(), LinearProbe(scaling="standard"), LinearSVM()])
@pytest.mark.parametrize("scale", [1e18, 1e30])
def test_linear_heads_say_that_single_precision_does_not_hold_their_squares(head, scale, iris):
    X, y = (iris[0] * scale).astype(np.float32), iris[1]
    with pytest.raises(InputError, match=TOO_LARGE):
        head.fit(X, y)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_remedy_for_features_of_odd_size_works(scale, iris, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    X, y = (iris[0] * scale).astype(np.float32), iris[1]
    data = {"train": (X[::2], y[::2]), "test": (X[1::2], y[1::2])}
    given = {"backbone": "identity", "dataset": data, "quiet": True, "head": ("linear", {"Cs": [1.0]})}
    if scale > 1:
        with pytest.raises(InputError, match=TOO_LARGE):
            probe.run(**given, standardize=False)
    else:
        with pytest.warns(UserWarning, match=HARDLY_VARY):
            assert probe.run(**given, standardize=False).metrics["top1"].value < 0.5
    assert probe.run(**given, standardize=True).metrics["top1"].value > 0.9


def test_heads_without_a_unit_are_right_at_any_size_of_single_precision(iris):
    X, y = iris
    for scale in (1e-30, 1e30):
        rows = (X * scale).astype(np.float32)
        for head in (NearestClassMean(), LinearDiscriminant(), KNearest()):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", HARDLY_VARY)
                assert head.fit(rows, y).score(rows, y) > 0.9


@pytest.mark.parametrize(
    ("scale", "sentence"),
    [(1e200, r"y holds 4e\+200, and squares of numbers to predict overflow: divide them by a power of ten"),
     (1e-200, "y is at most 4e-200, and squares of numbers to predict are 0: multiply them by a power of ten")],
)  # fmt: skip
def test_numbers_to_predict_that_cannot_be_computed_with_are_refused(scale, sentence, iris):
    Y = np.stack([iris[0][:, 0], iris[0][:, 1] * scale], axis=1)
    with pytest.raises(InputError, match=sentence):
        check_numbers(Y)
    with pytest.raises(InputError, match=sentence):
        OrdinaryLeastSquares().fit(iris[0], Y)
    check_numbers(np.zeros((3, 1)))


def told_of_flat_outputs(head, X, y):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        head.fit(X, y)
    return [str(one.message) for one in said if "too little for" in str(one.message)]


def test_features_too_small_for_every_penalty_are_told_and_the_remedies_work(iris):
    X, y = iris
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    uneven = np.r_[0:50:2, 50:100:4, 100:150:8]
    for rows in (np.arange(0, 150, 2), uneven):
        for scale in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0):
            head = LinearProbe()
            told = told_of_flat_outputs(head, X[rows] * scale, y[rows])
            useless = head.score(X[1::2] * scale, y[1::2]) < 0.5
            assert useless or not told
            assert told or not useless or scale == 1e-3  # outputs that differ by more than a twentieth are not told of
            assert all("C=10000: outputs of" in one for one in told)
    assert told_of_flat_outputs(LinearProbe(), X[uneven] * 1e-4, y[uneven])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for remedy in ({"scaling": "standard"}, {"Cs": [1e7, 1e8, 1e9]}):
            head = LinearProbe(**remedy).fit(X[uneven] * 1e-4, y[uneven])
            assert head.score(X[1::2] * 1e-4, y[1::2]) > 0.7


@pytest.mark.parametrize(
    ("head", "spread"), [(LinearSGD(epochs=10), 0.08), (LinearProbe([1.0]), 0.05), (LinearSVM([1.0]), 0.02)]
)
def test_small_outputs_that_tell_the_classes_are_no_matter(head, spread):
    """Embeddings of length 1 in a narrow cone, of balanced classes."""
    random, y = np.random.default_rng(0), np.arange(250) % 5
    centre, means = random.normal(size=384), random.normal(size=(5, 384))
    X = centre / np.linalg.norm(centre) + spread * (means[y] / 20 + 0.02 * random.normal(size=(250, 384)))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    assert not told_of_flat_outputs(head, X, y)
    assert head.score(X, y) > 0.95


def test_what_rows_of_length_1_leave_of_a_small_column_is_told_too():
    y = np.arange(100) % 2
    X = np.stack([np.full(100, 1e3), 1e-5 * (y + 0.1 * np.random.default_rng(0).normal(size=100))], axis=1)
    head = LinearProbe(scaling="l2")
    assert told_of_flat_outputs(head, X, y)
    assert head.score(X, y) == 0.5


def test_only_remedies_that_the_head_has_are_named(iris):
    uneven = np.r_[0:50, 50:100:4, 100:150:8]
    X, y = (iris[0] - iris[0].mean(axis=0))[uneven] * 1e-5, iris[1][uneven]
    (told,) = told_of_flat_outputs(Subclasses(rule="probe", least=1000), X, y)
    assert told.endswith(": set standardize=true, or larger head.Cs")


def test_a_small_batch_of_rows_that_are_alike_says_nothing_of_its_stream():
    X = np.random.default_rng(0).normal(size=(100, 4))
    X[1] = X[0] + 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch in (slice(0, 2), slice(2, 100), slice(0, 2)):
            head = NearestClassMean().partial_fit(X[batch], np.arange(100)[batch] % 2, classes=[0, 1])
            head.partial_fit(X[batch], np.arange(100)[batch] % 2)


def test_looking_at_outputs_takes_no_copy_of_coefficients():
    coefs = np.zeros((2, 4000, 256), np.float32)
    X = (1e-4 * np.random.default_rng(0).normal(size=(100, 256))).astype(np.float32)
    tracemalloc.start()
    with pytest.warns(UserWarning, match="too little for C=1: "):
        tell_of_flat_outputs(X, np.arange(100), (coefs, coefs[..., 0]), lambda rows: rows, "C=1", "larger head.Cs")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * coefs[0].nbytes
