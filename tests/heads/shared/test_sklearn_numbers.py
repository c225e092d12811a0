import numpy as np
import pytest
from sklearn.datasets import load_linnerud
from sklearn.linear_model import Lasso
from sklearn.multioutput import MultiOutputRegressor
from sklearn.svm import SVR
from sklearn.utils import all_estimators

from probe.core.errors import InputError
from probe.heads.shared.base import AnyHead
from probe.heads.shared.sklearn_numbers import SklearnNumbers
from probe.heads.sklearn import SklearnHead

X, Y = load_linnerud(return_X_y=True)


def test_predicts_what_the_regressor_predicts():
    head = SklearnNumbers("sklearn.linear_model.Lasso", {"alpha": 0.3}).fit(X, Y)
    np.testing.assert_array_equal(head.predict(X), Lasso(alpha=0.3).fit(X, Y).predict(X))
    steps = SklearnNumbers(["sklearn.preprocessing.StandardScaler", "sklearn.svm.SVR"], {"svr__C": 3.0}).fit(X, Y[:, 0])
    assert steps.predict(X).shape == (len(X),)


def test_an_estimator_of_one_column_is_fitted_to_each():
    head = SklearnNumbers("sklearn.svm.SVR").fit(X, Y)
    np.testing.assert_array_equal(head.predict(X), MultiOutputRegressor(SVR()).fit(X, Y).predict(X))


def test_a_classifier_given_numbers_and_the_reverse_are_refused_by_name():
    with pytest.raises(InputError, match=r"head.estimator is 'sklearn.svm.SVC', expected .* regressor"):
        SklearnHead("sklearn.svm.SVC").for_target("number").check_parameters()
    with pytest.raises(InputError, match=r"head.estimator is 'sklearn.svm.SVR', expected .* classifier"):
        SklearnHead("sklearn.svm.SVR").check_parameters()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", [name for name, _ in all_estimators("regressor")])
def test_every_regressor_of_scikit_learn_that_can_be_fitted_can_be_read_back(name, tmp_path):
    kind = dict(all_estimators("regressor"))[name]
    _comes_back(SklearnNumbers(f"{kind.__module__}.{name}"), tmp_path)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "gamma", "poisson", "quantile"])
def test_every_loss_of_boosted_trees_can_be_read_back(loss, tmp_path):
    params = {"loss": loss, "quantile": 0.5 if loss == "quantile" else None, "max_iter": 3}
    _comes_back(SklearnNumbers("sklearn.ensemble.HistGradientBoostingRegressor", params), tmp_path)


def _comes_back(head, tmp_path):
    try:
        head.fit(X, Y[:, 0])
    except (AttributeError, TypeError, ValueError, IndexError, InputError):
        pytest.skip("needs other parameters or numbers")
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(AnyHead.load(tmp_path / "head.safetensors").predict(X), head.predict(X))
