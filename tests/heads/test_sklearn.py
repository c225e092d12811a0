import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

from probe.core.errors import InputError
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.head import Head
from probe.heads.sklearn import SklearnHead

ESTIMATORS = [
    "sklearn.svm.SVC",
    "sklearn.tree.DecisionTreeClassifier",
    "sklearn.linear_model.RidgeClassifier",
    ["sklearn.preprocessing.MinMaxScaler", "sklearn.neighbors.KNeighborsClassifier"],
    ["sklearn.preprocessing.MinMaxScaler", "probe.heads.ncm.NearestClassMean"],
]


@pytest.mark.parametrize(
    ("estimator", "params", "peer"),
    [
        ("sklearn.svm.SVC", {"C": 10.0}, SVC(C=10.0)),
        ("sklearn.linear_model.RidgeClassifier", None, RidgeClassifier()),
        (
            ["sklearn.preprocessing.MinMaxScaler", "sklearn.svm.SVC"],
            {"svc__kernel": "linear"},
            make_pipeline(MinMaxScaler(), SVC(kernel="linear")),
        ),
        (
            ["sklearn.preprocessing.MinMaxScaler", "probe.heads.ncm.NearestClassMean"],
            None,
            make_pipeline(MinMaxScaler(), NearestClassMean()),
        ),
    ],
)
def test_scores_are_those_of_the_estimator(estimator, params, peer):
    X, y = load_wine(return_X_y=True)
    head = SklearnHead(estimator, params).fit(X, y)
    np.testing.assert_array_equal(head.predict(X), peer.fit(X, y).predict(X))
    if not hasattr(peer, "predict_proba"):
        np.testing.assert_array_equal(head.decision_function(X), peer.decision_function(X))


def test_probabilities_are_those_of_the_estimator_and_zeros_stay_finite():
    X, y = load_iris(return_X_y=True)
    head = SklearnHead("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 9}, random_state=3).fit(X, y)
    peer = RandomForestClassifier(9, random_state=3).fit(X.astype(np.float32), y)
    assert np.isfinite(head.logits(X)).all()
    np.testing.assert_allclose(head.predict_proba(X), peer.predict_proba(X), atol=1e-12)


def test_probabilities_of_zero_in_float32_stay_finite():
    X, y = load_wine(return_X_y=True)
    X = X.astype(np.float32)
    assert np.isfinite(SklearnHead("sklearn.naive_bayes.GaussianNB").fit(X, y).logits(1e3 * X)).all()


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_a_saved_head_predicts_the_same_bits_without_pickle(estimator, tmp_path):
    X, y = load_wine(return_X_y=True)
    head = SklearnHead(estimator).fit(X[::2], np.array(["a", "b", "c"])[y[::2]])
    head.save(tmp_path / "head.safetensors")
    copy = Head.load(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(copy.logits(X), head.logits(X))
    np.testing.assert_array_equal(copy.predict(X), head.predict(X))


def test_a_file_with_types_of_elsewhere_is_refused(tmp_path, monkeypatch):
    X, y = load_wine(return_X_y=True)
    SklearnHead(ESTIMATORS[-1]).fit(X, y).save(tmp_path / "head.safetensors")
    monkeypatch.setattr(SklearnHead, "trusted", ())
    with pytest.raises(InputError, match=r"holds .*probe.heads.ncm.NearestClassMean.*, which are not trusted"):
        Head.load(tmp_path / "head.safetensors").predict(X)


def test_validation_rows_are_further_training_rows():
    X, y = load_breast_cancer(return_X_y=True)
    split = SklearnHead("sklearn.naive_bayes.GaussianNB").fit(X[::2], y[::2], validation=(X[1::2], y[1::2]))
    both = SklearnHead("sklearn.naive_bayes.GaussianNB").fit(X, y)
    np.testing.assert_allclose(split.logits(X), both.logits(X), rtol=1e-6)


def test_the_seed_reaches_every_step_unless_params_say_otherwise():
    tree = SklearnHead("sklearn.tree.DecisionTreeClassifier", random_state=7)
    assert tree._build().random_state == 7
    tree.params = {"random_state": 1}
    assert tree._build().random_state == 1


@pytest.mark.parametrize(
    ("estimator", "params", "message"),
    [
        ("sklearn.svm.SVM", None, "names 'sklearn.svm.SVM', which cannot be imported"),
        ("SVC", None, "names 'SVC', which cannot be imported"),
        ("sklearn.svm.SVR", None, "expected the import path of a classifier"),
        ([], None, r"head.estimator is \[\], expected"),
        ("sklearn.svm.SVC", {"gama": 1}, r"head.params is \{'gama': 1\}, which sklearn.svm.SVC does not take: choose"),
    ],
)
def test_what_is_no_classifier_or_no_parameter_is_refused_before_any_row(estimator, params, message):
    with pytest.raises(InputError, match=message):
        SklearnHead(estimator, params).check_parameters()
