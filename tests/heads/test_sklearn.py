import functools
import importlib
import json
import operator
import os
import pickle
import subprocess

import joblib
import numpy as np
import pytest
import sklearn.datasets
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators
from skops import io

from probe.core.errors import InputError
from probe.core.hashing import hash_bytes
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.head import Head
from probe.heads.shared.sklearn_types import PART_NAMES, is_part
from probe.heads.sklearn import SklearnHead


def number_case():
    """What fits numbers in `tests/contracts/test_number_heads.py`."""
    return {"estimator": "sklearn.linear_model.Ridge"}


ESTIMATORS = [
    "sklearn.svm.SVC",
    "sklearn.tree.DecisionTreeClassifier",
    "sklearn.linear_model.RidgeClassifier",
    ["sklearn.preprocessing.MinMaxScaler", "sklearn.neighbors.KNeighborsClassifier"],
    ["sklearn.preprocessing.MinMaxScaler", "probe.heads.ncm.NearestClassMean"],
    ["sklearn.preprocessing.MinMaxScaler", "probe.heads.naive_bayes.NaiveBayes"],
    ["sklearn.preprocessing.MinMaxScaler", "probe.heads.ridge.RidgeProbe"],
    ["sklearn.preprocessing.MinMaxScaler", "probe.heads.lda.LinearDiscriminant"],
    ["sklearn.preprocessing.MinMaxScaler", "probe.heads.linear.LinearProbe"],
    ["sklearn.preprocessing.MinMaxScaler", "probe.heads.linear_sgd.LinearSGD"],
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


class Own(LogisticRegression):
    """An estimator of elsewhere."""


def hostile(step, path):
    """A saved head whose fitted pipeline begins with a step of the attacker's."""
    X, y = load_wine(return_X_y=True)
    head = SklearnHead("sklearn.naive_bayes.GaussianNB").fit(X, y)
    head.model_ = np.frombuffer(io.dumps(Pipeline([("a", step), ("b", head._fitted)])), dtype=np.uint8)
    head.save(path)
    return path


FUNCTIONS = [
    os.system,
    pickle.loads,
    joblib.load,
    subprocess.check_output,
    sklearn.datasets.load_files,
    sklearn.datasets.fetch_openml,
    functools.partial(os.system, "touch ran"),
    operator.methodcaller("tofile", "ran"),
    np.arange(3).tofile,
    GaussianNB().fit,
    Own,
    SklearnHead("os.system"),
    InputError,
    hash_bytes,
    joblib.Memory,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: getattr(function, "__qualname__", str(function)))
def test_a_file_that_names_a_function_or_a_foreign_class_is_refused(function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    step = FunctionTransformer(None, check_inverse=False)
    step.func = function
    path = hostile(step, tmp_path / "head.safetensors")
    with pytest.raises(InputError, match=r"the saved head holds .*, expected estimators of scikit-learn and their"):
        Head.load(path).predict(load_wine().data)
    assert not (tmp_path / "ran").exists()


def test_everything_that_a_file_may_hold_is_a_class():
    for name in PART_NAMES:
        module, _, attribute = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), attribute), type), name
    assert is_part("sklearn.svm._classes.SVC")
    odd = ["sklearn.svm.SVC", "sklearn.base.clone", "sklearn.base.BaseEstimator.set_params", "sklearn.nothing.SVC"]
    odd += ["sklearn.tree._tree.DOUBLE", "sklearn.externals.joblib.Memory", "sklearn", "os.system", "sklearnx.a.B"]
    odd += ["probe.core.hashing.hash_bytes", "probe.heads.sklearn.SklearnHead", "probe.backbones.module.ModuleBackbone"]
    assert not [name for name in odd if is_part(name)]


def test_a_file_cannot_widen_what_is_trusted(tmp_path):
    path = hostile(FunctionTransformer(os.system), tmp_path / "head.safetensors")
    with safe_open(path, framework="numpy") as file:
        header, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["digest"]  # as in files of older versions
    for name in ("trusted", "_fitted", "fit"):
        attributes = json.loads(header["attributes"]) | {name: ["posix.system"]}
        save_file(arrays, path, metadata=header | {"attributes": json.dumps(attributes)})
        with pytest.raises(InputError, match=f"sets {name}, which no fitted head has: give a file that a run wrote"):
            Head.load(path)


def test_a_class_that_the_user_trusts_is_read(tmp_path, monkeypatch):
    X, y = load_wine(return_X_y=True)
    path = hostile(SelectKBest(k=3).fit(X, y), tmp_path / "head.safetensors")
    name = "sklearn.feature_selection._univariate_selection.f_classif"
    with pytest.raises(
        InputError, match=rf"holds {name}, expected estimators .*: add these names to SklearnHead.trust"
    ):
        Head.load(path).predict(X)
    monkeypatch.setattr(SklearnHead, "trusted", (name,))
    with pytest.raises(ValueError, match="features"):  # read, and three columns are too few for the classifier
        Head.load(path).predict(X)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, _ in all_estimators("classifier")])
def test_every_classifier_of_scikit_learn_that_can_be_fitted_can_be_read_back(name, tmp_path):
    X, y = load_iris(return_X_y=True)
    kind = dict(all_estimators("classifier"))[name]
    head = SklearnHead(f"{kind.__module__}.{name}")
    try:
        head.fit(X, y)
    except (AttributeError, TypeError, ValueError, IndexError, InputError):
        pytest.skip("needs other parameters or labels")
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(Head.load(tmp_path / "head.safetensors").logits(X), head.logits(X))


class OwnHead(NearestClassMean):
    pass


def test_a_head_of_elsewhere_is_loaded_by_its_own_class_alone(tmp_path):
    X, y = load_wine(return_X_y=True)
    OwnHead().fit(X, y).save(tmp_path / "head.safetensors")
    for kind in (Head, NearestClassMean, SklearnHead):
        with pytest.raises(InputError, match=r"holds a OwnHead from .*, which is no head of this package"):
            kind.load(tmp_path / "head.safetensors")
    assert OwnHead.load(tmp_path / "head.safetensors").predict(X).shape == y.shape


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ({"estimator": "sklearn.svm.SVC", "params": {"C": 1.0}}, []),
        ({"estimator": ["sklearn.preprocessing.MinMaxScaler", "probe.heads.ncm.NearestClassMean"]}, []),
        ({"estimator": "os.system"}, ["estimator=os.system"]),
        ({"estimator": ["sklearn.datasets.load_files", "sklearn.svm.SVC"]}, ["estimator=sklearn.datasets.load_files"]),
        ({"estimator": "probe.heads.sklearn.SklearnHead"}, ["estimator=probe.heads.sklearn.SklearnHead"]),
        ({"estimator": "probe.core.hashing.hash_bytes"}, ["estimator=probe.core.hashing.hash_bytes"]),
        (
            {"estimator": "sklearn.svm.SVC", "params": {"memory": "x", "a__memory": 1}},
            ["params.memory", "params.a__mem"],
        ),
    ],
)
def test_parameters_that_run_code_are_named(parameters, shown):
    named = SklearnHead.runs_code(parameters)
    assert len(named) == len(shown)
    assert all(line.startswith(start) for line, start in zip(named, shown, strict=True))


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
