"""Every head that has a yaml: what all of them promise, and what those of classes do (`test_number_heads`: of numbers).

A head's own test file may have `contract_case() -> dict`: parameters with which X and y alone fit it, in a second.
"""

import importlib
import inspect
import pickle
import re
from functools import partial

import numpy as np
import pytest
from contract_cases import contract_case
from hostile_rows import hostile
from omegaconf import OmegaConf
from places import CONF, TESTS
from plain_steps import without_fused_steps
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from probe.core.abilities import MeasuresFeatures
from probe.core.arrays import RowSubset
from probe.core.errors import InputError
from probe.experiment.choosing import fit_on_folds
from probe.heads.linear import LinearProbe
from probe.heads.shared.base import AnyHead
from probe.heads.shared.head import Head

YAMLS = sorted((CONF / "head").glob("*.yaml"))
# A preset inherits another head's yaml and lists what differs.
PRESETS = [path for path in YAMLS if "defaults" in OmegaConf.load(path)]
CONFIGS = [path for path in YAMLS if path not in PRESETS]


def target(path):
    module, _, name = OmegaConf.load(path)["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), name)


HEADS = {path.stem: target(path) for path in CONFIGS if "one_class" in target(path).fits}
# What stands in the place of a head and predicts nothing has its own test.
HEADS = {name: kind for name, kind in HEADS.items() if not issubclass(kind, MeasuresFeatures)}
CASES = {name: partial(kind, **(contract_case("heads", name) or dict)()) for name, kind in HEADS.items()}
# Heads that read texts say nothing of rows and labels alone; their own tests hold them to the rest.
POOLED = [
    pytest.param(CASES[name], id=name)
    for name, kind in HEADS.items()
    if kind.consumes == ("pooled",) and not kind.reads_texts
]
every_head = pytest.mark.parametrize("kind", [pytest.param(case, id=name) for name, case in CASES.items()])
every_pooled_head = pytest.mark.parametrize("kind", POOLED)


@pytest.fixture
def halves():
    """Iris as float16, so that a memmap and an array hold the same numbers: train X, y and test X, y."""
    X, y = load_iris(return_X_y=True)
    X = X.astype(np.float16)
    return X[::2], y[::2], X[1::2], y[1::2]


def as_kinds(X, kind):
    """Rows (N, 4) as whatever kinds of features a head reads: as they are, as two tokens, a map of two places, ids."""
    shapes = {"pooled": (4,), "tokens": (2, 2), "map": (2, 1, 2), "cells": (2, 2)}
    ids = (2 * X).astype(np.int32) + 100 * np.arange(4, dtype=np.int32)
    arrays = {name: ids if name == "token_ids" else X.reshape(-1, *shapes[name]) for name in kind.func.consumes}
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def looks_at_rows(kind):
    """Whether a head predicts by the features, which scikit-learn is told of."""
    return not kind().__sklearn_tags__().classifier_tags.poor_score


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_yaml_lists_every_parameter_with_its_default(path):
    config = OmegaConf.to_container(OmegaConf.load(path))
    config.pop("_target_")
    defaults = {
        name: list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        for name, parameter in inspect.signature(target(path)).parameters.items()
    }
    assert config == defaults


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_inherits_one_head_and_lists_what_differs(path):
    given = OmegaConf.to_container(OmegaConf.load(path))
    (inherited,) = (name for name in given.pop("defaults") if name != "_self_")
    base = OmegaConf.to_container(OmegaConf.load(path.with_name(f"{inherited}.yaml")))
    assert given
    assert not {key: value for key, value in given.items() if key not in base or base[key] == value}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_file_yaml_and_test_share_a_name(path):
    assert target(path).__module__ == f"probe.heads.{path.stem}"
    assert (TESTS / "heads" / f"test_{path.stem}.py").exists()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_kind_is_a_head_that_says_what_it_consumes(path):
    assert issubclass(target(path), AnyHead)
    assert target(path).fits
    assert target(path).consumes
    assert target(path).__doc__


@every_pooled_head
def test_scikit_learn_finds_no_fault(kind):
    # Nothing fails. The one check that is skipped wants SCIPY_ARRAY_API, an environment variable of its own.
    results = check_estimator(kind(), on_fail=None, on_skip=None)
    faults = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped")}
    assert not faults
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}


@every_pooled_head
def test_works_in_pipeline_cross_validation_and_grid_search(kind, halves):
    X, y, *_ = halves
    X = X.astype(np.float64)
    least = 0.75 if looks_at_rows(kind) else 0.3
    assert cross_val_score(make_pipeline(StandardScaler(), kind()), X, y, cv=3).mean() > least
    first = dict([*kind().get_params().items()][:1])
    search = GridSearchCV(kind(), {name: [default] for name, default in first.items()}, cv=3).fit(X, y)
    assert search.best_params_ == first
    assert search.best_score_ > least


@every_head
def test_clone_pickle_save_and_load_keep_every_bit(kind, halves, tmp_path):
    X, y, X_test, _ = halves
    X, X_test = as_kinds(X, kind), as_kinds(X_test, kind)
    head = kind().fit(X, y if kind.func.reads_texts else np.array(["a", "b", "c"])[y])
    assert not hasattr(clone(head), "classes_")
    head.save(tmp_path / "head.safetensors")
    for copy in (pickle.loads(pickle.dumps(head)), Head.load(tmp_path / "head.safetensors")):
        np.testing.assert_array_equal(copy.logits(X_test), head.logits(X_test))
        np.testing.assert_array_equal(copy.predict(X_test), head.predict(X_test))
        np.testing.assert_array_equal(copy.classes_, head.classes_)
        # What a run fills in as an array is kept as it was fitted.
        assert not {k for k, v in head.get_params().items() if np.ndim(v) < 2 and copy.get_params()[k] != v}


@every_head
def test_same_seed_gives_the_same_bits(kind, halves):
    X, y, X_test, y_test = halves
    X, X_test = as_kinds(X, kind), as_kinds(X_test, kind)
    fits = [kind().fit(X, y, validation=(X_test, y_test)).logits(X_test) for _ in range(2)]
    np.testing.assert_array_equal(*fits)


def several(values):
    """What a parameter lists, or two of it where that is one alone; a number is how many there are."""
    return values if isinstance(values, int) or len(values) > 1 else [*values, 2 * values[0]]


@every_head
def test_a_head_that_chooses_says_which_parameters_leave_one_candidate(kind, halves):
    X, y, X_test, y_test = halves
    X, X_test = as_kinds(X, kind), as_kinds(X_test, kind)
    parameters = kind().get_params()
    listed = {name: several(parameters[name]) for name in kind.func.searches.values()}
    head = kind().set_params(**listed).fit(X, y, validation=(X_test, y_test))
    found = getattr(head, "selection_", {"chosen": {}, "searched": []})
    assert set(found["chosen"]) == set(kind.func.searches)
    for candidate in found["searched"]:
        only = head.only({name: candidate[name] for name in found["chosen"]})
        again = clone(head).set_params(**only).fit(X, y, validation=(X_test, y_test))
        assert len(getattr(again, "selection_", {"searched": []})["searched"]) <= 1


@every_head
@pytest.mark.parametrize("n_folds", [0, 3])
def test_what_a_head_chooses_can_be_chosen_on_folds(kind, n_folds, halves):
    X, y, *_ = halves
    parameters = kind().get_params()
    head = kind().set_params(**{name: several(parameters[name]) for name in kind.func.searches.values()})
    folds = np.arange(len(y)) % n_folds if n_folds else np.full(len(y), -1)
    fitted = fit_on_folds(head, as_kinds(X, kind), y, folds, {})
    if kind.func.searches:
        chosen = fitted.selection_["chosen"]
        assert fitted.selection_["on"].startswith("3 folds" if n_folds else "nothing")
        assert fitted.get_params().items() >= fitted.only(chosen).items()


@every_pooled_head
def test_a_float16_memmap_and_a_row_subset_give_what_the_array_gives(kind, halves, tmp_path):
    X, y, X_test, y_test = halves
    np.save(tmp_path / "x.npy", np.concatenate([X, X_test]))
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    train, test = RowSubset(stored, np.arange(len(X))), RowSubset(stored, np.arange(len(X), len(stored)))
    expected = kind().fit(X, y).logits(X_test)
    spread = np.ptp(expected)
    for source, rest in ((stored[: len(X)], stored[len(X) :]), (train, test)):
        np.testing.assert_allclose(kind().fit(source, y).logits(rest), expected, rtol=1e-5, atol=1e-5 * spread)
    kind().fit(train, y, validation=(test, y_test))


@every_head
def test_how_rows_lie_in_memory_and_fused_steps_move_no_logit(kind, halves, tmp_path, monkeypatch):
    X, y, X_test, _ = halves
    X, X_test = as_kinds(X, kind), as_kinds(X_test, kind)
    expected = kind().fit(X, y).logits(X_test)
    without_fused_steps(monkeypatch)

    def columns_first(array, name="x"):
        np.save(tmp_path / f"{name}.npy", np.asfortranarray(array))
        return np.load(tmp_path / f"{name}.npy", mmap_mode="r")

    odd = {name: columns_first(of, name) for name, of in X.items()} if isinstance(X, dict) else columns_first(X)
    # Steps of a solver that stops early part at the last digit; numbers taken for another one's are far off.
    np.testing.assert_allclose(kind().fit(odd, y).logits(X_test), expected, rtol=0, atol=1e-3 * np.ptp(expected))


@every_pooled_head
def test_an_order_of_rows_or_names_of_classes_moves_no_prediction(kind, halves):
    X, y, X_test, _ = halves
    if not looks_at_rows(kind):  # of classes that are equally frequent, it takes the first by name
        X, y = X[3:-1], y[3:-1]
    order = np.random.default_rng(0).permutation(len(y))
    expected = kind().fit(X, y).predict(X_test)
    assert (kind().fit(X[order], y[order]).predict(X_test) == expected).mean() >= 0.97
    renamed = np.array([7, -2, 5])
    assert (kind().fit(X, renamed[y]).predict(X_test) == renamed[expected]).mean() >= 0.97


@every_pooled_head
@pytest.mark.filterwarnings("ignore:features vary by")
@pytest.mark.parametrize("rows", hostile().values(), ids=hostile())
def test_hostile_rows_give_finite_probabilities(kind, rows):
    X, y = rows
    head = kind().fit(X, y)
    assert np.isfinite(head.predict_proba(X)).all()
    assert set(head.predict(X)) <= set(y)


@every_pooled_head
def test_log_probabilities_are_those_of_the_probabilities(kind, halves):
    X, y, X_test, _ = halves
    head = kind().fit(X, y)
    np.testing.assert_allclose(np.exp(head.predict_log_proba(X_test)), head.predict_proba(X_test), atol=1e-12)


@every_pooled_head
def test_several_labels_per_row_are_refused_with_a_head_that_fits_them(kind, halves):
    X, y, *_ = halves
    if type(kind().for_target("labels")) is kind.func and "labels" in kind.func.fits:
        pytest.skip("fits either as it comes")
    several = np.stack([y > 0, y > 1, X[:, 1] > 3], axis=1).astype(int)
    with pytest.raises(InputError, match=r"fits one class per row.* (\w+)\(\)\.for_target\('labels'\)") as refused:
        kind().fit(X, several)
    able = {type(head).__name__: head for head in (kind(), LinearProbe())}
    named = re.search(r"with (\w+)\(\)", str(refused.value))[1]
    assert able[named].for_target("labels").fit(X, several).predict(X).shape == several.shape


@every_pooled_head
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_refused_with_its_row(kind, bad, halves):
    X, y, *_ = halves
    X[17, 2] = bad
    with pytest.raises(ValueError, match="row 17 of X holds NaN or inf, expected finite features: leave that row out"):
        kind().fit(X, y)


@every_pooled_head
def test_two_classes_give_one_score_and_two_logits(kind, halves):
    X, y, X_test, _ = halves
    head = kind().fit(X[y > 0], y[y > 0])
    assert head.logits(X_test).shape == (len(X_test), 2)
    np.testing.assert_array_equal(head.decision_function(X_test), np.diff(head.logits(X_test))[:, 0])


@every_pooled_head
@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(kind, halves):
    if "device" not in kind().get_params():
        pytest.skip("computes on the CPU alone")
    X, y, X_test, _ = halves
    # Within the default tolerance two devices stop at two points, further apart than what is asked here.
    tight = {"tol": 1e-9} if "tol" in kind().get_params() else {}
    expected, found = (kind(device=device, **tight).fit(X, y).logits(X_test) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.ptp(expected))
