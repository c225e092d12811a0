"""Every head that fits numbers: what all of them promise.

A head's own test file may have `number_case() -> dict`: parameters with which it fits numbers in a second; and
`coupled_columns`, where several columns of numbers are not fitted as each alone.
"""

import pickle

import numpy as np
import pytest
from contract_cases import contract_case
from hydra.utils import instantiate
from omegaconf import OmegaConf
from places import CONF
from plain_steps import without_fused_steps
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from probe.core.abilities import MeasuresFeatures
from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.experiment.choosing import fit_on_folds
from probe.heads.shared.base import AnyHead
from probe.heads.shared.head import Head


def heads():
    """By name what makes a head of numbers."""
    found = {}
    for path in sorted((CONF / "head").glob("*.yaml")):
        if "_target_" in OmegaConf.load(path):
            head = instantiate(OmegaConf.load(path), _convert_="all")
            if "number" in head.fits and head.consumes == ("pooled",) and not isinstance(head, MeasuresFeatures):
                given = (contract_case("heads", path.stem, "number_case") or dict)()
                found[path.stem] = head.set_params(**given).for_target("number")
    return found


every_head = pytest.mark.parametrize("made", [pytest.param(head, id=name) for name, head in heads().items()])


@pytest.fixture
def head(made):
    return clone(made)


@pytest.fixture
def halves():
    """Diabetes in float16, so that a memmap and an array hold the same: train X, y and test X, y."""
    X, y = load_diabetes(return_X_y=True)
    X = X.astype(np.float16)
    return X[::2], y[::2], X[1::2], y[1::2]


@every_head
def test_scikit_learn_finds_no_fault(head):
    results = check_estimator(head, on_fail=None, on_skip=None)
    faults = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped")}
    # A constant learns nothing on purpose.
    allowed = {"check_regressors_train", "check_regressors_int"} if hasattr(head, "_centre") else set()
    assert set(faults) <= allowed, faults


@every_head
def test_works_in_a_pipeline_and_cross_validation(head, halves):
    X, y, *_ = halves
    scores = cross_val_score(make_pipeline(StandardScaler(), head), X.astype(np.float64), y, cv=3)
    assert scores.mean() > (-0.1 if hasattr(head, "_centre") else 0)


@every_head
def test_a_feature_that_does_not_vary_says_nothing(head):
    """The mean of 57 equal numbers differs from them by rounding, which is no deviation to divide by."""
    X, y = load_diabetes(return_X_y=True)
    X[:, 1] = 0.1
    assert X[:57, 1].std() > 0
    head.fit(X[:57], y[:57])
    moved = X[57:] + 1e-3 * (np.arange(X.shape[1]) == 1)
    assert np.abs(head.predict(moved) - head.predict(X[57:])).max() < 0.01 * y.std()


@every_head
@pytest.mark.parametrize("columns", [1, 2])
def test_clone_pickle_save_and_load_keep_every_bit(head, columns, halves, tmp_path):
    X, y, X_test, _ = halves
    y = y if columns == 1 else np.stack([y, -2 * y], axis=1)
    head.fit(X, y)
    assert not hasattr(clone(head), "n_columns_")
    head.save(tmp_path / "head.safetensors")
    loads = [AnyHead.load, Head.load]
    for copy in (pickle.loads(pickle.dumps(head)), *(load(tmp_path / "head.safetensors") for load in loads)):
        np.testing.assert_array_equal(copy.predict(X_test), head.predict(X_test))
        assert copy.predict(X_test).shape == (len(X_test), *y.shape[1:])
        # A default that is a tuple comes back as one.
        assert [list(v) if isinstance(v, tuple) else v for v in copy.get_params().values()] == list(
            head.get_params().values()
        )


@every_head
def test_several_columns_are_fitted_as_each_alone(head, halves, request):
    if contract_case("heads", request.node.callspec.id, "coupled_columns"):
        pytest.skip("its columns share what they are fitted on")
    X, y, X_test, _ = halves
    Y = np.stack([y, y**2], axis=1)
    alone = clone(head)
    if "alpha_per_target" in head.get_params():
        head.set_params(alpha_per_target=True)
    both = head.fit(X, Y).predict(X_test)
    for q in range(2):
        np.testing.assert_allclose(both[:, q], clone(alone).fit(X, Y[:, q]).predict(X_test), rtol=1e-6)


@every_head
def test_the_unit_of_the_numbers_scales_predictions_alone(head, halves):
    X, y, X_test, y_test = halves
    expected = clone(head).fit(X, y, validation=(X_test, y_test)).predict(X_test)
    found = clone(head).fit(X, 1e-7 * y, validation=(X_test, 1e-7 * y_test)).predict(X_test)
    np.testing.assert_allclose(1e7 * found, expected, rtol=1e-5)


@every_head
@pytest.mark.parametrize("n_folds", [0, 3])
def test_what_a_head_chooses_can_be_chosen_on_folds(head, n_folds, halves):
    X, y, *_ = halves
    folds = np.arange(len(y)) % n_folds if n_folds else np.full(len(y), -1)
    fitted = fit_on_folds(head, X, y, folds, {})
    if head.searches:
        assert fitted.selection_["on"].startswith("3 folds" if n_folds else "nothing")
        assert fitted.get_params().items() >= fitted.only(fitted.selection_["chosen"]).items()


@every_head
def test_a_float16_memmap_and_a_row_subset_give_what_the_array_gives(head, halves, tmp_path):
    X, y, X_test, y_test = halves
    np.save(tmp_path / "x.npy", np.concatenate([X, X_test]))
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = clone(head).fit(X, y).predict(X_test)
    subset = RowSubset(stored, np.arange(len(X)))
    for source in (stored[: len(X)], subset):
        np.testing.assert_allclose(clone(head).fit(source, y).predict(stored[len(X) :]), expected, rtol=1e-5)
    clone(head).fit(subset, y, validation=(X_test, y_test))


@every_head
def test_how_rows_lie_in_memory_and_fused_steps_move_no_number(head, halves, tmp_path, monkeypatch):
    X, y, X_test, _ = halves
    expected = clone(head).fit(X, y).predict(X_test)
    without_fused_steps(monkeypatch)
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    found = clone(head).fit(np.load(tmp_path / "x.npy", mmap_mode="r"), y).predict(X_test)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@every_head
@pytest.mark.filterwarnings("ignore:features vary by")
@pytest.mark.parametrize(
    "rows",
    [
        (np.full((12, 3), 3.0), np.arange(12.0)),
        (np.random.default_rng(0).normal(size=(2, 30)), np.array([0.0, 1.0])),
        (np.random.default_rng(0).normal(size=(12, 3)) * 1e15, np.arange(12.0)),
        (np.random.default_rng(0).normal(size=(12, 1)) * 1e-20, np.arange(12.0)),
        (np.repeat(np.eye(3), 4, axis=0), np.full(12, 5.0)),
    ],
    ids=["constant features", "two rows", "large", "small", "constant numbers"],
)
def test_hostile_rows_give_finite_numbers(head, rows):
    assert np.isfinite(head.fit(*rows).predict(rows[0])).all()


@every_head
@pytest.mark.parametrize(
    ("y", "text"),
    [
        (["a"] * 4, "expected numbers: choose a head of classes"),
        ([1, 2, np.inf, 4], "y holds NaN or inf in row 2"),
        ([1.0, 2.0], "X has 4 rows and y shape"),
    ],
)
def test_what_are_no_numbers_is_refused(head, y, text):
    with pytest.raises(InputError, match=text):
        head.fit(np.eye(4), np.array(y))


@every_head
def test_one_row_is_refused(head):
    with pytest.raises(InputError, match="one sample only, expected at least 2"):
        head.fit(np.eye(3)[:1], [1.0])
